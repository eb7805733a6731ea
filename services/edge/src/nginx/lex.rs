//! Reads a configuration the way NGINX's own tokenizer does (`ngx_conf_read_token`), to show that a text means the
//! tree it was made from. Pure.

/// A statement, as NGINX sees it: words, and a block if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) words: Vec<String>,
    pub(super) block: Option<Vec<Statement>>,
}

/// All statements of `text`, or why NGINX would not read it.
pub(super) fn lex(text: &str) -> Result<Vec<Statement>, String> {
    let mut chars = text.chars().peekable();
    let statements = block(&mut chars, true)?;
    chars.next().map_or(Ok(statements), |c| Err(format!("{c:?} after the end")))
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn block(chars: &mut Chars<'_>, top: bool) -> Result<Vec<Statement>, String> {
    let mut statements = Vec::new();
    let mut words = Vec::new();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            ';' if words.is_empty() => return Err("`;` without a directive".into()),
            ';' => statements.push(Statement { words: std::mem::take(&mut words), block: None }),
            '{' if words.is_empty() => return Err("`{` without a directive".into()),
            '{' => {
                let inner = block(chars, false)?;
                statements.push(Statement { words: std::mem::take(&mut words), block: Some(inner) });
            }
            '}' if top || !words.is_empty() => return Err("unexpected `}`".into()),
            '}' => return Ok(statements),
            '"' | '\'' => words.push(quoted(chars, c)?),
            _ => words.push(bare(chars, c)),
        }
    }
    if top && words.is_empty() { Ok(statements) } else { Err("unexpected end".into()) }
}

fn quoted(chars: &mut Chars<'_>, quote: char) -> Result<String, String> {
    let mut word = String::new();
    while let Some(c) = chars.next() {
        if c == quote {
            // NGINX wants a separator after a closing quote.
            return match chars.peek() {
                Some(' ' | '\t' | '\r' | '\n' | ';' | '{' | ')') => Ok(word),
                other => Err(format!("{other:?} after a closing quote")),
            };
        }
        take(chars, c, &mut word);
    }
    Err("a quote that is not closed".into())
}

fn bare(chars: &mut Chars<'_>, first: char) -> String {
    let mut word = String::new();
    take(chars, first, &mut word);
    while let Some(c) = chars.peek().copied() {
        match c {
            ' ' | '\t' | '\r' | '\n' | ';' | '{' if !(c == '{' && word.ends_with('$')) => break,
            _ => {}
        }
        chars.next();
        take(chars, c, &mut word);
    }
    word
}

/// Adds `c`, or what it stands for together with what follows; an unknown escape keeps its backslash.
fn take(chars: &mut Chars<'_>, c: char, word: &mut String) {
    if c != '\\' {
        return word.push(c);
    }
    match chars.next() {
        Some(c @ ('"' | '\'' | '\\')) => word.push(c),
        Some('t') => word.push('\t'),
        Some('r') => word.push('\r'),
        Some('n') => word.push('\n'),
        Some(c) => word.extend(['\\', c]),
        None => word.push('\\'),
    }
}
