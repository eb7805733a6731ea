//! The correlation id of a request: taken from the caller when sane, else made. No I/O.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header in which callers send the id and services echo it.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

const MAX_LENGTH: usize = 64;

/// Ties the log lines of one request together across services. Handlers find it in the request extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrelationId(HeaderValue);

impl CorrelationId {
    /// The caller's id when it is 1 to 64 letters, digits, `.`, `_` or `-`; a new one otherwise. What a
    /// stranger sends ends up in logs, so nothing else is let through.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(&HEADER) {
            Some(value) if is_sane(value.as_bytes()) => Self(value.clone()),
            _ => Self::generate(),
        }
    }

    fn generate() -> Self {
        // Unique, not secret: one random prefix for the process, and a keyed hash of a counter.
        static PROCESS: LazyLock<(u64, RandomState)> = LazyLock::new(|| {
            let keys = RandomState::new();
            (keys.hash_one("process"), keys)
        });
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (prefix, keys) = &*PROCESS;
        let id = format!("{prefix:016x}{:016x}", keys.hash_one(NEXT.fetch_add(1, Ordering::Relaxed)));
        Self(HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("none")))
    }

    /// The id as a header value.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

fn is_sane(id: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_LENGTH).contains(&id.len()) && id.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &'static [u8]) -> String {
        let value = HeaderValue::from_bytes(value).unwrap();
        CorrelationId::of(&HeaderMap::from_iter([(HEADER, value)])).to_string()
    }

    #[test]
    fn a_sane_id_is_kept() {
        assert_eq!(of(b"order-7.retry_2"), "order-7.retry_2");
        assert_eq!(of(&[b'a'; 64]), "a".repeat(64));
    }

    #[test]
    fn anything_else_is_replaced_by_a_new_one() {
        for bad in [&b""[..], b"a b", b"a\"b", b"\xff", &[b'a'; 65]] {
            let id = of(bad);
            assert!(id.len() == 32 && is_sane(id.as_bytes()), "{id}");
        }
        assert_ne!(of(b""), of(b""));
    }
}
