//! Mounted tokens as tables that NGINX includes. Takes a directory that the kubelet fills, fills another one that only
//! this container has. Does I/O. Nothing of a token is ever logged.

use super::server::Server;
use crate::files::{self, FileError, fail};
use crate::names::SecretId;
use crate::nginx::tokens::{Tables, tables};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

/// How often the mounted files are looked at. The kubelet changes them once in a minute or so.
const LOOK: Duration = Duration::from_secs(2);
/// No key is longer: tokens are short, and somebody may have mounted something else.
const LONGEST: u64 = 4096;

/// What was made of which files.
pub(super) struct Tokens {
    from: PathBuf,
    to: PathBuf,
    made: BTreeMap<SecretId, Tables>,
}

impl Tokens {
    /// Begins with nothing: a token that went while this container was down must not be left.
    pub(super) fn open(from: &Path, to: &Path) -> Result<Self, FileError> {
        files::remove_dir(to)?;
        Ok(Self { from: from.to_owned(), to: to.to_owned(), made: BTreeMap::new() })
    }

    /// Makes tables of what is mounted now; whether any is another than before.
    pub(super) fn refresh(&mut self) -> bool {
        let found = self.mounted();
        if found == self.made {
            return false;
        }
        for (id, tables) in found.iter().filter(|(id, tables)| self.made.get(id) != Some(tables)) {
            for fault in &tables.faults {
                warn!(secret = %id, fault, "a token was left out");
            }
        }
        match self.write(&found) {
            Ok(()) => {
                self.made = found;
                true
            }
            Err(error) => {
                warn!(%error, "tokens were not taken over, those before stay");
                false
            }
        }
    }

    fn mounted(&self) -> BTreeMap<SecretId, Tables> {
        // The kubelet's own directories beside those of Secrets are no ids.
        let names = files::entries(&self.from).unwrap_or_default();
        let ids = names.iter().filter_map(|name| SecretId::parse(name.to_str()?).ok());
        let of = |id: &SecretId| tables(|key| read(&self.from.join(id.as_str()).join(key)));
        ids.map(|id| (id.clone(), of(&id))).collect()
    }

    fn write(&self, found: &BTreeMap<SecretId, Tables>) -> Result<(), FileError> {
        for gone in self.made.keys().filter(|id| !found.contains_key(id)) {
            files::remove_dir(&self.to.join(gone.as_str()))?;
        }
        for (id, tables) in found {
            // A key that was taken out of its Secret leaves no table behind.
            files::remove_dir(&self.to.join(id.as_str()))?;
            for (key, text) in &tables.by_key {
                let dir = self.to.join(id.as_str()).join(key);
                fs::create_dir_all(&dir).map_err(fail("make", &dir))?;
                let file = dir.join("table");
                create(&file, text).map_err(fail("write", &file))?;
            }
        }
        Ok(())
    }
}

/// For this user alone.
fn create(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// What stands under a key; nothing where the Secret, or the key, is missing.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Has NGINX read tokens again whenever they change, for ever.
pub(super) async fn follow(mut tokens: Tokens, server: Arc<Server>) {
    let mut is_due = false;
    loop {
        sleep(LOOK).await;
        is_due |= tokens.refresh();
        if is_due {
            match server.read_again().await {
                Ok(()) => {
                    info!("tokens changed");
                    is_due = false;
                }
                Err(reason) => warn!(reason, "tokens changed, but NGINX did not read them yet"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_follow_what_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut tokens = Tokens::open(&from, &to).unwrap();
        assert!(!tokens.refresh(), "nothing is mounted");
        let secret = from.join("0123456789abcdef");
        fs::create_dir_all(&secret).unwrap();
        fs::create_dir_all(from.join("..2026_01_01")).unwrap();
        fs::write(secret.join("token"), "0123456789abcdef\n").unwrap();
        fs::write(secret.join("other"), "0123456789abcdef\n").unwrap();
        assert!(tokens.refresh() && !tokens.refresh());
        let table = to.join("0123456789abcdef/token/table");
        assert_eq!(fs::read_to_string(&table).unwrap(), "\"0123456789abcdef\" \"token\";\n");
        assert_eq!(files::entries(&to).unwrap().len(), 1);
        fs::write(secret.join("token"), "fedcba9876543210").unwrap();
        assert!(tokens.refresh());
        assert_eq!(fs::read_to_string(&table).unwrap(), "\"fedcba9876543210\" \"token\";\n");
        fs::remove_dir_all(&secret).unwrap();
        assert!(tokens.refresh() && files::entries(&to).unwrap().is_empty());
    }

    #[test]
    fn a_restart_leaves_nothing_of_a_run_before() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("0123456789abcdef")).unwrap();
        fs::write(from.join("0123456789abcdef/service"), "0123456789abcdef").unwrap();
        assert!(Tokens::open(&from, &to).unwrap().refresh());
        fs::remove_dir_all(&from).unwrap();
        assert!(!Tokens::open(&from, &to).unwrap().refresh());
        assert!(!to.exists());
    }
}
