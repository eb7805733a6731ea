//! Headers whose values change while a load runs: tokens, say. Reads a file for each request.

use http::header::{HeaderName, HeaderValue};
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

/// A header whose value is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderFile {
    name: HeaderName,
    path: PathBuf,
}

impl FromStr for HeaderFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text
            .split_once('=')
            .filter(|(_, path)| !path.is_empty())
            .ok_or_else(|| format!("`{text}` is not NAME=PATH, as in x-service-token=/tokens/database"))?;
        let name = name.parse::<HeaderName>().map_err(|_| format!("`{name}` is no name of a header"))?;
        Ok(HeaderFile { name, path: path.into() })
    }
}

impl HeaderFile {
    /// The header as it is now. None when there is no such file, or what is in it cannot stand in a header: the
    /// request goes without it then, and the answer tells. The read does not wait for a disk: Kubernetes mounts
    /// Secrets from memory.
    pub(super) fn current(&self) -> Option<(HeaderName, HeaderValue)> {
        // The kubelet makes a new directory and removes the old one, in which a first look may just have been.
        let text = fs::read_to_string(&self.path).or_else(|_| fs::read_to_string(&self.path)).ok()?;
        let mut value = HeaderValue::try_from(text.trim()).ok().filter(|value| !value.is_empty())?;
        // Kept out of debug output.
        value.set_sensitive(true);
        Some((self.name.clone(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_what_the_file_holds_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let header: HeaderFile = format!("X-Service-Token={}", path.display()).parse().unwrap();
        assert_eq!(header.current(), None);
        for (text, value) in
            [("first\n", Some("first")), ("second", Some("second")), (" \n", None), ("a\nb", None)]
        {
            fs::write(&path, text).unwrap();
            let now = header.current();
            assert_eq!(now.as_ref().map(|(_, value)| value.to_str().unwrap()), value, "{text:?}");
            assert!(now.is_none_or(|(name, value)| name == "x-service-token" && value.is_sensitive()));
        }
    }

    #[test]
    fn what_names_no_header_or_no_file_is_refused() {
        for bad in ["", "token", "token=", "=/a", "two words=/a"] {
            assert!(bad.parse::<HeaderFile>().is_err(), "{bad}");
        }
        assert!("a=/b=c".parse::<HeaderFile>().is_ok(), "a path may have an `=`");
    }
}
