//! The one place where a tree becomes text. Data is always quoted and escaped; whatever a caller forgot to check
//! cannot leave its quotes. Pure.

use super::tree::{Arg, Head, Node, Part, Text};
use std::fmt::Write;

/// Text of the configuration, one statement a line.
pub(super) fn encode(nodes: &[Node]) -> String {
    let mut out = String::new();
    statements(&mut out, nodes, 0);
    out
}

fn statements(out: &mut String, nodes: &[Node], depth: usize) {
    for node in nodes {
        out.extend(std::iter::repeat_n("  ", depth));
        match &node.head {
            Head::Name(name) => out.push_str(name),
            Head::Key(key) => quote(out, key),
        }
        for arg in &node.args {
            out.push(' ');
            match arg {
                Arg::Word(word) => out.push_str(word),
                Arg::Text(text) => quote(out, text),
                // Writing to a String cannot fail.
                Arg::Definition(variable) => drop(write!(out, "${variable}")),
            }
        }
        match &node.block {
            None => out.push_str(";\n"),
            Some(block) => {
                out.push_str(" {\n");
                statements(out, block, depth + 1);
                out.extend(std::iter::repeat_n("  ", depth));
                out.push_str("}\n");
            }
        }
    }
}

fn quote(out: &mut String, text: &Text) {
    out.push('"');
    for part in &text.0 {
        match part {
            Part::Data(data) => data.chars().for_each(|c| {
                if matches!(c, '"' | '\\') {
                    out.push('\\');
                }
                out.push(c);
            }),
            variable => out.push_str(&variable.plain()),
        }
    }
    out.push('"');
}
