//! Writes to standard output: once, or again and again in the same place. I/O.

use std::io::{self, IsTerminal as _, Write as _, stdout};

/// To the first line.
const HOME: &str = "\x1b[H";
/// Clears the rest of the line, and goes to the next.
const END_OF_LINE: &str = "\x1b[K\n";
/// Clears what is below.
const REST: &str = "\x1b[J";
/// Clears everything.
const CLEAR: &str = "\x1b[2J";

/// Prints a text. Who does not listen any more is an error, not a panic.
pub fn say(text: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A text that stays in its place on a terminal; elsewhere it is printed when it has changed.
pub struct Live {
    in_place: bool,
    said: Option<String>,
}

impl Live {
    /// Nothing is shown yet.
    pub fn new() -> Self {
        Self { in_place: stdout().is_terminal(), said: None }
    }

    /// Shows a text in place of the one before.
    pub fn show(&mut self, text: &str) -> io::Result<()> {
        if self.said.as_deref() == Some(text) {
            return Ok(());
        }
        let before = self.said.replace(text.to_owned());
        match (self.in_place, before) {
            (true, None) => say(&format!("{CLEAR}{}", in_place(text))),
            (true, Some(_)) => say(&in_place(text)),
            (false, None) => say(text),
            (false, Some(_)) => say(&format!("\n{text}")),
        }
    }
}

fn in_place(text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("{line}{END_OF_LINE}")).collect();
    format!("{HOME}{lines}{REST}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_longer_before_leaves_nothing_behind() {
        assert_eq!(in_place("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
