//! A lower revision never wins, and a revision means one content for ever. Pure.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stomaton_crds::hex::hex;

/// The highest revision that was ever seen of an object, and its content as a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fence {
    pub(super) revision: i64,
    digest: String,
}

impl Fence {
    /// Lets `object` of `revision` pass and remembers it, or says why not. What was the newest before passes again.
    pub(super) fn admit(&mut self, revision: i64, object: &impl Serialize) -> Result<(), String> {
        let digest =
            digest(object).map_err(|error| format!("revision {revision} cannot be hashed: {error}"))?;
        if revision < self.revision {
            return Err(format!(
                "revision {revision} is lower than {}, which this agent has seen; a new one must be higher",
                self.revision
            ));
        }
        if revision == self.revision && digest != self.digest {
            return Err(format!(
                "revision {revision} was seen with another content; a change needs a higher one"
            ));
        }
        *self = Self { revision, digest };
        Ok(())
    }
}

fn digest(object: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(hex(&Sha256::digest(serde_json::to_vec(object)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_higher_revisions_change_content() {
        let mut fence = Fence::default();
        assert_eq!(fence.admit(3, &"a"), Ok(()));
        assert_eq!(fence.admit(3, &"a"), Ok(()));
        assert!(fence.admit(3, &"b").unwrap_err().contains("another content"));
        assert!(fence.admit(2, &"a").unwrap_err().contains("lower than 3"));
        assert_eq!(fence.admit(4, &"b"), Ok(()));
        assert_eq!(fence.revision, 4);
    }
}
