//! Content, orders for it, and the rules both keep. Pure.

use std::{collections::BTreeMap, fmt::Write};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stomaton_kit::ApiError;

use super::{
    generator::{Draft, GenerateError},
    sanitise::sanitise,
};

/// Characters, of which a stored text keeps at most so many.
const MAX_TITLE: usize = 200;
const MAX_BODY: usize = 8000;
const MAX_NOTES: usize = 500;
const MAX_STONE_ID: usize = 80;

/// What a text is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    #[default]
    Description,
    Care,
    Provenance,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::Care => "care",
            Self::Provenance => "provenance",
        }
    }
}

/// Whom a text is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Audience {
    Internal,
    Supplier,
    #[default]
    Public,
}

impl Audience {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Supplier => "supplier",
            Self::Public => "public",
        }
    }
}

/// The body of `POST generate`, as it came.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderRequest {
    stone_id: String,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    audience: Audience,
    #[serde(default)]
    notes: String,
}

impl OrderRequest {
    /// # Errors
    /// 422, naming the field and what it may hold.
    pub(crate) fn checked(self) -> Result<Order, ApiError> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=MAX_STONE_ID).contains(&self.stone_id.len()) || !self.stone_id.chars().all(fits) {
            let message = "stone_id is 1 to 80 lower-case letters, digits and hyphens, such as ruby-mogok";
            return Err(ApiError::unprocessable(message));
        }
        if self.notes.chars().count() > MAX_NOTES {
            return Err(ApiError::unprocessable("notes are at most 500 characters"));
        }
        let notes = sanitise(&self.notes, MAX_NOTES);
        Ok(Order { stone_id: self.stone_id, kind: self.kind, audience: self.audience, notes })
    }
}

/// A checked order for one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) stone_id: String,
    pub(crate) kind: Kind,
    pub(crate) audience: Audience,
    /// Sanitised; may be empty.
    pub(crate) notes: String,
}

impl Order {
    /// The id of the content that `generator` makes of this order: the same one in every process, so that
    /// the two sides of a migration agree and a repeated order is not stored twice.
    pub(crate) fn content_id(&self, generator: &str) -> String {
        let mut hash = Sha256::new();
        for part in [generator, &self.stone_id, self.kind.as_str(), self.audience.as_str(), &self.notes] {
            // No part can hold this separator: sanitised text has no control characters but newlines.
            hash.update(part);
            hash.update([0x1f]);
        }
        hash.finalize().iter().take(16).fold(String::with_capacity(32), |mut id, byte| {
            // Writing to a string cannot fail.
            write!(id, "{byte:02x}").ok();
            id
        })
    }
}

/// A generated text as it is stored and answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Content {
    pub(crate) id: String,
    pub(crate) stone_id: String,
    pub(crate) kind: String,
    pub(crate) audience: String,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) words: u32,
    pub(crate) generator: String,
    /// In `recent` only: two sides that generate the same text do it at different times, and their answers
    /// to `generate` should still be equal.
    #[serde(skip)]
    pub(crate) generated_at: String,
}

impl Content {
    /// # Errors
    /// [`GenerateError::Empty`] when nothing is left of the draft once it is sanitised.
    pub(crate) fn new(
        order: &Order,
        draft: Draft,
        generator: &str,
        now: Timestamp,
    ) -> Result<Self, GenerateError> {
        let (title, body) = (sanitise(&draft.title, MAX_TITLE), sanitise(&draft.body, MAX_BODY));
        if title.is_empty() || body.is_empty() {
            return Err(GenerateError::Empty);
        }
        Ok(Self {
            id: order.content_id(generator),
            stone_id: order.stone_id.clone(),
            kind: order.kind.as_str().to_owned(),
            audience: order.audience.as_str().to_owned(),
            words: u32::try_from(body.split_whitespace().count()).unwrap_or(u32::MAX),
            title,
            body,
            generator: generator.to_owned(),
            generated_at: now.to_string(),
        })
    }
}

/// A line of `recent`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) id: String,
    pub(crate) stone_id: String,
    pub(crate) kind: String,
    pub(crate) audience: String,
    pub(crate) title: String,
    pub(crate) words: u32,
    pub(crate) generated_at: String,
}

/// Counts over all contents.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stats {
    pub(crate) contents: i64,
    pub(crate) words: i64,
    pub(crate) by_kind: BTreeMap<String, i64>,
    pub(crate) by_audience: BTreeMap<String, i64>,
    pub(crate) by_generator: BTreeMap<String, i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> Result<Order, ApiError> {
        serde_json::from_str::<OrderRequest>(json).unwrap().checked()
    }

    #[test]
    fn an_order_needs_only_a_stone() {
        let order = request(r#"{"stone_id":"ruby-mogok"}"#).unwrap();
        assert_eq!(
            (order.kind, order.audience, order.notes.as_str()),
            (Kind::Description, Audience::Public, "")
        );
    }

    #[test]
    fn orders_outside_the_rules_are_refused() {
        let long = format!(r#"{{"stone_id":"ruby-mogok","notes":"{}"}}"#, "é".repeat(MAX_NOTES + 1));
        for bad in [r#"{"stone_id":""}"#, r#"{"stone_id":"../etc"}"#, r#"{"stone_id":"Ruby"}"#, &long] {
            assert!(request(bad).is_err(), "{bad}");
        }
        assert!(request(&long.replacen('é', "", 1)).is_ok());
    }

    #[test]
    fn each_part_of_an_order_is_part_of_its_id() {
        let order = |notes: &str| Order {
            stone_id: "ruby-mogok".to_owned(),
            kind: Kind::Care,
            audience: Audience::Public,
            notes: notes.to_owned(),
        };
        // Written out: ids are stored, so they must not change with the code.
        assert_eq!(order("").content_id("offline-1"), "5b0210aec03ea1c346c48c14869eb503");
        let ids = [
            order("").content_id("offline-1"),
            order("").content_id("offline-2"),
            order("x").content_id("offline-1"),
            Order { kind: Kind::Provenance, ..order("") }.content_id("offline-1"),
            Order { audience: Audience::Internal, ..order("") }.content_id("offline-1"),
            Order { stone_id: "ruby-winza".to_owned(), ..order("") }.content_id("offline-1"),
        ];
        assert_eq!(std::collections::HashSet::from(ids).len(), 6);
    }
}
