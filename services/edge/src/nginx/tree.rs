//! A configuration of NGINX as a tree that cannot hold syntax: names of directives are constants of this program,
//! data is checked and has no `$`. Pure.

use crate::names::{CookieName, HeaderName};
use std::fmt;

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) head: Head,
    pub(super) args: Vec<Arg>,
    /// `None`: a simple directive, ended by `;`.
    pub(super) block: Option<Vec<Node>>,
}

/// What a statement begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A directive.
    Name(&'static str),
    /// A source value inside `map` or `split_clients`.
    Key(Text),
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    /// A word of NGINX's own.
    Word(&'static str),
    /// Data, variables, or both.
    Text(Text),
    /// The variable that a directive defines: `$name`, without braces or quotes.
    Definition(Variable),
}

/// A string made of data and variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Data(String),
    Variable(Variable),
    /// What a request says in this header. This and the next two are the only variables whose names are not constants
    /// of this program.
    Header(HeaderName),
    /// What a request says in this cookie.
    Cookie(CookieName),
    /// What an answer says in this header.
    Answer(HeaderName),
}

/// A variable: a constant name, or one of a numbered family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    name: &'static str,
    number: Option<(usize, usize)>,
}

impl Variable {
    pub(super) const fn named(name: &'static str) -> Self {
        Self { name, number: None }
    }

    pub(super) const fn numbered(name: &'static str, a: usize, b: usize) -> Self {
        Self { name, number: Some((a, b)) }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            None => f.write_str(self.name),
            Some((a, b)) => write!(f, "{}_{a}_{b}", self.name),
        }
    }
}

/// Why a string cannot be data of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// NGINX has no way to escape it.
    #[error("`$` cannot be written in a configuration of NGINX")]
    Dollar,
    /// Line breaks, NUL, and other bytes without a glyph, or outside ASCII.
    #[error("only printable ASCII may stand in a configuration of NGINX")]
    NotPrintable,
    /// NGINX reads tokens into a buffer of 4096 bytes.
    #[error("a string of {0} bytes is too long for NGINX; 2048 are allowed")]
    TooLong(usize),
}

impl Text {
    /// Data, refused where no encoding could make it harmless.
    pub(super) fn data(data: &str) -> Result<Self, DataError> {
        Self::default().and(data)
    }

    /// A word that this program knows to be harmless.
    pub(super) fn fixed(data: &'static str) -> Self {
        Self(vec![Part::Data(data.to_owned())])
    }

    pub(super) fn number(number: impl Into<i64>) -> Self {
        Self(vec![Part::Data(number.into().to_string())])
    }

    pub(super) fn var(mut self, variable: Variable) -> Self {
        self.0.push(Part::Variable(variable));
        self
    }

    /// `other` after it.
    pub(super) fn join(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(super) fn header(name: &HeaderName) -> Self {
        Self(vec![Part::Header(name.clone())])
    }

    pub(super) fn cookie(name: &CookieName) -> Self {
        Self(vec![Part::Cookie(name.clone())])
    }

    pub(super) fn answer(name: &HeaderName) -> Self {
        Self(vec![Part::Answer(name.clone())])
    }

    pub(super) fn and(mut self, data: &str) -> Result<Self, DataError> {
        if data.contains('$') {
            return Err(DataError::Dollar);
        }
        if !data.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(DataError::NotPrintable);
        }
        if data.len() > 2048 {
            return Err(DataError::TooLong(data.len()));
        }
        match self.0.last_mut() {
            Some(Part::Data(last)) => last.push_str(data),
            _ => self.0.push(Part::Data(data.to_owned())),
        }
        Ok(self)
    }
}

impl From<Variable> for Text {
    fn from(variable: Variable) -> Self {
        Self::default().var(variable)
    }
}

impl From<Text> for Arg {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<Variable> for Arg {
    fn from(variable: Variable) -> Self {
        Self::Text(variable.into())
    }
}

impl From<&'static str> for Arg {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

/// A simple directive.
pub(super) fn line<const N: usize>(name: &'static str, args: [Arg; N]) -> Node {
    Node { head: Head::Name(name), args: args.into(), block: None }
}

/// A directive with a block.
pub(super) fn block<const N: usize>(name: &'static str, args: [Arg; N], nodes: Vec<Node>) -> Node {
    Node { head: Head::Name(name), args: args.into(), block: Some(nodes) }
}

/// `key value` inside `map` or `split_clients`.
pub(super) fn entry(key: Text, value: Text) -> Node {
    Node { head: Head::Key(key), args: vec![value.into()], block: None }
}

impl Part {
    /// The part as NGINX reads it, before anything is escaped.
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Data(data) => data.clone(),
            Self::Variable(variable) => format!("${{{variable}}}"),
            Self::Header(name) => format!("${{http_{}}}", name.as_str().replace('-', "_")),
            Self::Cookie(name) => format!("${{cookie_{name}}}"),
            Self::Answer(name) => format!("${{upstream_http_{}}}", name.as_str().replace('-', "_")),
        }
    }
}
