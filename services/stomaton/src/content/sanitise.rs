//! Sanitising of text before it is stored: takes anything, gives plain text. Pure.
//!
//! What comes out holds no `<` and no `>`, no control characters but newlines, and nothing that turns the
//! direction of text around it. So it cannot become markup, wherever it is shown later.

/// Plain text of at most `max` characters: tags are dropped, a lone angle bracket becomes its typographic
/// look-alike (so that "below < 7" keeps its meaning), white space is collapsed, paragraphs are kept.
pub(crate) fn sanitise(text: &str, max: usize) -> String {
    let plain: String = without_tags(text).chars().filter(|c| !is_hidden(*c)).collect();
    let short: String = collapsed(&plain).chars().take(max).collect();
    short.trim_end().to_owned()
}

/// A tag leaves a space behind: "a<br>b" is two words.
fn without_tags(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['<', '>']) {
        let (before, bracket) = rest.split_at(at);
        plain.push_str(before);
        rest = match tag_length(bracket) {
            Some(length) => {
                plain.push(' ');
                &bracket[length..]
            }
            None => {
                plain.push(if bracket.starts_with('<') { '‹' } else { '›' });
                &bracket[1..]
            }
        };
    }
    plain.push_str(rest);
    plain
}

/// How many bytes of `text`, which begins with a bracket, are a tag: HTML's own rule for what opens one.
fn tag_length(text: &str) -> Option<usize> {
    let opens = text
        .strip_prefix('<')?
        .starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'));
    opens.then(|| text.find('>').map(|end| end + 1)).flatten()
}

/// Control characters, marks that reorder text, and characters that show nothing.
fn is_hidden(c: char) -> bool {
    let is_space = matches!(c, '\n' | '\r' | '\t');
    (c.is_control() && !is_space)
        || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// One space between words, one newline between lines, an empty line between paragraphs.
fn collapsed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut newlines = 0;
    for line in text.split(['\n', '\r', '\u{2028}', '\u{2029}', '\u{85}']) {
        let mut words = line.split_whitespace();
        if let Some(first) = words.next() {
            out.push_str(if out.is_empty() { "" } else { &"\n\n"[..newlines.min(2)] });
            out.push_str(first);
            words.for_each(|word| {
                out.push(' ');
                out.push_str(word);
            });
            newlines = 0;
        }
        newlines += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples() {
        for (text, expected) in [
            ("plain", "plain"),
            ("  a \t b \n\n\n\n c  ", "a b\n\nc"),
            ("a\nb", "a\nb"),
            ("a<br>b<br/>c", "a b c"),
            ("<p class=\"x\">Hello <b>you</b></p>", "Hello you"),
            ("hardness < 7 and > 5", "hardness ‹ 7 and › 5"),
            ("<<b>script>alert(1)<</b>/script>", "‹ script›alert(1)‹ /script›"),
            ("never closed <img src=x onerror=alert(1)", "never closed ‹img src=x onerror=alert(1)"),
            ("<!-- a --><?php b ?>c", "c"),
            ("a\u{0}b\u{1b}[31mc\u{7f}", "ab[31mc"),
            ("\u{202e}txt.exe\u{202c} \u{feff}ok", "txt.exe ok"),
            ("Größe 宝石 💎", "Größe 宝石 💎"),
        ] {
            assert_eq!(sanitise(text, 1000), expected, "{text:?}");
        }
    }

    #[test]
    fn the_bound_counts_characters_and_never_ends_in_space() {
        assert_eq!(sanitise("日本語", 2), "日本");
        assert_eq!(sanitise("ab cd", 3), "ab");
        assert_eq!(sanitise("abc", 0), "");
    }

    /// Text that is rich in what matters here.
    fn nasty() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("<"),
            Just(">"),
            Just("</"),
            Just("<b"),
            Just("<!--"),
            Just("script"),
            Just("\""),
            Just("'"),
            Just(" "),
            Just("\n"),
            Just("\r\n"),
            Just("\u{0}"),
            Just("\u{202e}"),
            Just("\u{200b}"),
            Just("\u{2028}"),
            Just("&lt;"),
            Just("é"),
            Just("💎"),
            Just("x"),
        ];
        prop_oneof![any::<String>(), prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())]
    }

    proptest! {
        #[test]
        fn what_comes_out_is_plain(text in nasty(), max in 0_usize..60) {
            let plain = sanitise(&text, max);
            prop_assert!(!plain.contains(['<', '>']));
            prop_assert!(plain.chars().all(|c| c == '\n' || !(c.is_control() || is_hidden(c))));
            prop_assert!(plain.chars().count() <= max);
            prop_assert_eq!(plain.trim(), &plain);
            prop_assert!(!plain.contains("\n\n\n") && !plain.contains("  "));
        }

        #[test]
        fn twice_is_once(text in nasty(), max in 0_usize..60) {
            let once = sanitise(&text, max);
            prop_assert_eq!(sanitise(&once, max), once);
        }

        #[test]
        fn harmless_text_is_left_alone(words in prop::collection::vec("[a-zA-Z0-9é宝.,;:&\"']{1,8}", 0..12)) {
            let text = words.join(" ");
            prop_assert_eq!(sanitise(&text, 1000), text);
        }
    }
}
