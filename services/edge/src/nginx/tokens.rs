//! Tokens of a mounted Secret as entries of a table that a configuration includes. Pure.
//!
//! The agent's gate sees the `include` only, so what is included passes the same gate here, in the one place that makes
//! it. NGINX compares without case, and has no word for two equal keys but refusing the whole configuration; so equal
//! ones are left out.

use super::gate;
use super::tree::{Text, entry};
use std::collections::BTreeSet;
use stomaton_crds::keys::TOKEN_KEYS;

/// More lines than this are left out.
const MOST: usize = 8;

/// The tables of one Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// By key of the Secret, each with its text.
    pub by_key: Vec<(&'static str, String)>,
    /// What was left out, without a word of its content.
    pub faults: Vec<String>,
}

/// Tables of a Secret; `content` gives what stands under a key. A token stands on a line by itself; there may be several,
/// so that one can follow another.
pub fn tables(mut content: impl FnMut(&str) -> Option<String>) -> Tables {
    let mut tables = Tables::default();
    let mut seen = BTreeSet::new();
    for key in TOKEN_KEYS {
        let Some(content) = content(key) else { continue };
        let mut entries = Vec::new();
        let lines = content.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
        for (at, line) in lines {
            let place = || format!("`{key}`, line {}", at + 1);
            if !is_token(line) {
                tables.faults.push(format!("{}: must be 16 to 128 of A-Z a-z 0-9 _ -", place()));
            } else if entries.len() == MOST {
                tables.faults.push(format!("{}: more than {MOST} tokens", place()));
            } else if !seen.insert(line.to_ascii_lowercase()) {
                tables.faults.push(format!("{}: the same token stands before it", place()));
            } else if let Ok(token) = Text::data(line) {
                entries.push(entry(token, Text::fixed(key)));
            }
        }
        match gate::table(&entries) {
            Ok(text) => tables.by_key.push((key, text)),
            Err(error) => tables.faults.push(format!("`{key}`: {error}")),
        }
    }
    tables
}

fn is_token(line: &str) -> bool {
    (16..=128).contains(&line.len())
        && line.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(audience: &str) -> Tables {
        tables(|key| (key == "token").then(|| audience.to_owned()))
    }

    #[test]
    fn a_token_is_a_line_and_there_may_be_several() {
        let tables = of("0123456789abcdef\n\n  A_-3456789abcdef\r\n");
        assert_eq!(tables.faults, Vec::<String>::new());
        let expected = "\"0123456789abcdef\" \"token\";\n\"A_-3456789abcdef\" \"token\";\n";
        assert_eq!(tables.by_key, [("token", expected.to_owned())]);
    }

    #[test]
    fn a_token_means_one_thing() {
        let tables = tables(|key| (key != "token").then(|| "0123456789ABCDEF\n0123456789abcdef".to_owned()));
        let entry = "\"0123456789ABCDEF\" \"monolith\";\n".to_owned();
        assert_eq!(tables.by_key, [("monolith", entry), ("service", String::new())]);
        assert_eq!(tables.faults.len(), 3, "{:?}", tables.faults);
    }

    #[test]
    fn what_is_no_token_is_left_out_and_never_quoted() {
        for bad in
            ["short", "0123456789abcde;", "0123456789 abcdef", "0123456789abcdefé", "\"0123456789abcdef"]
        {
            let tables = of(bad);
            assert_eq!(tables.by_key, [("token", String::new())], "{bad}");
            assert!(tables.faults.len() == 1 && !tables.faults[0].contains(bad), "{:?}", tables.faults);
        }
        let many: String = (0..20).map(|n| format!("{n:016}\n")).collect();
        assert_eq!(of(&many).faults.len(), 12);
    }

    proptest! {
        #[test]
        fn whatever_is_mounted_is_plain_entries(content in any::<String>()) {
            let tables = of(&content);
            let text = &tables.by_key[0].1;
            prop_assert!(text.lines().all(|line| line.starts_with('"') && line.ends_with("\" \"token\";")));
            prop_assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "\"_-; \n".contains(c)));
        }
    }
}
