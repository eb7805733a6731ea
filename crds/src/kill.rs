//! How a route is taken back without the API server: a message to each edge pod, which sets a latch. Pure.
//!
//! The way is plain HTTP inside the cluster, so the key never travels: the body is signed with it. A message names the
//! Gateway, the route and the attempt that it takes back, so one that is sent again, or to another edge, does nothing:
//! the attempt is over, or latched already. Nothing that can be said here lifts a latch.

use crate::hex::hex;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;

/// Where an agent takes it, by POST.
pub const PATH: &str = "/v1/kill";
/// Header of the signature.
pub const SIGNATURE: &str = "x-stomaton-signature";

/// Hold a route on its safe side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kill {
    /// The Gateway, `NAMESPACE/NAME`.
    pub gateway: String,
    /// Identity of the route.
    pub route: String,
    /// The attempt that is taken back.
    pub attempt: i32,
    /// The newest revision of EdgeWeights that the sender knows.
    pub revision: i64,
}

/// What an agent did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Killed {
    /// What became of it.
    pub outcome: Outcome,
    /// Revision of EdgeWeights in force there.
    pub revision: i64,
}

/// What became of a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The route is on its safe side from now on.
    Latched,
    /// It was already.
    Held,
    /// The attempt is over: nothing was done.
    Superseded,
}

/// The key that an operator and the agents of one Gateway share. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 64]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A key from 32 random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        let text = hex(&random);
        let mut key = [0; 64];
        // Two digits for each byte.
        key.copy_from_slice(text.as_bytes());
        Self(key)
    }

    /// A key as it stands in a file; none when it cannot be one.
    pub fn read(text: &str) -> Option<Self> {
        let key: [u8; 64] = text.trim_ascii().as_bytes().try_into().ok()?;
        key.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(key))
    }

    /// As it stands in a file.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The signature of `body`.
    pub fn sign(&self, body: &[u8]) -> String {
        hex(&self.over(body).finalize().into_bytes())
    }

    /// Whether `signature` is that of `body`. Takes as long whatever is wrong with it.
    pub fn verify(&self, body: &[u8], signature: &str) -> bool {
        unhex(signature).is_some_and(|signature| self.over(body).verify_slice(&signature).is_ok())
    }

    fn over(&self, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&self.0.into());
        mac.update(body);
        mac
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let digits = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| text.as_bytes().chunks(2).map(byte).collect()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case 1 of RFC 4231 has a shorter key, which is filled with zeros to the length that ours have.
    #[test]
    fn the_signature_is_hmac_sha256() {
        let mut key = [0; 64];
        key[..20].fill(0x0b);
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(Key(key).sign(b"Hi There"), expected);
        assert!(Key(key).verify(b"Hi There", expected));
        assert!(Key(key).verify(b"Hi There", &expected.to_uppercase()));
    }

    #[test]
    fn another_body_key_or_signature_is_refused() {
        let key = Key::new([7; 32]);
        let signature = key.sign(b"body");
        assert!(key.verify(b"body", &signature));
        assert!(!key.verify(b"bodY", &signature));
        assert!(!Key::new([8; 32]).verify(b"body", &signature));
        for wrong in
            ["", "00", &"0".repeat(64), &signature[1..], &"é".repeat(32), &format!("+{}", &signature[1..])]
        {
            assert!(!key.verify(b"body", wrong), "{wrong}");
        }
    }

    #[test]
    fn a_key_survives_a_file_and_is_not_printed() {
        let key = Key::new([0xab; 32]);
        let text = format!("{}\n", std::str::from_utf8(key.expose()).unwrap());
        assert_eq!(text.trim_ascii(), "ab".repeat(32));
        assert_eq!(Key::read(&text), Some(key.clone()));
        for wrong in ["", "ab", &"AB".repeat(32), &"ab".repeat(33), &"zz".repeat(32)] {
            assert_eq!(Key::read(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{key:?}"), "Key(..)");
    }
}
