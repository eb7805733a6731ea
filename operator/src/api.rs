//! Calls to the API server: each within a time, each write counted. I/O.
//!
//! kube has no read timeout of its own, and its default retries can sleep for minutes inside one call; the client is
//! made without them (see [`crate::run`]), so that a pass either ends soon or says why not.

use crate::metrics::{Metrics, Verb};
use kube::Resource;
use std::time::Duration;
use tokio::time::timeout;

/// Longest a call may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer in time. The call may or may not have had its effect.
    #[error("cannot {doing}: no answer from the API server within {} s", TIMEOUT.as_secs())]
    Timeout {
        /// What was asked, as it would stand after "cannot".
        doing: String,
    },
    /// The API server, or the way to it, said no.
    #[error("cannot {doing}: {}", reason(source))]
    Refused {
        /// What was asked, as it would stand after "cannot".
        doing: String,
        /// Why not.
        source: kube::Error,
    },
}

impl Error {
    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        // By the code too: of a kind that is not served the API server says it in plain words, without a reason.
        let is = |status: &kube::core::Status| status.is_not_found() || status.code == 404;
        matches!(self, Self::Refused { source: kube::Error::Api(status), .. } if is(status))
    }

    /// Whether the operator does not have the right.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { source: kube::Error::Api(status), .. } if status.code == 403)
    }

    /// Whether somebody else was faster: read again and decide anew.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { source: kube::Error::Api(status), .. } if status.is_conflict())
    }

    /// Whether an object of that name is there already.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Refused { source: kube::Error::Api(status), .. } if status.is_already_exists())
    }

    /// Whether the API server finds the object itself wrong: trying the same again cannot help.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Refused { source: kube::Error::Api(status), .. } if status.code == 422)
    }
}

/// The words for a person: an answer's own message instead of its whole structure.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Makes a call that changes nothing. `doing` stands after "cannot": `read Deployment fleet/content`.
pub async fn read<T>(
    doing: impl FnOnce() -> String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match timeout(TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Refused { doing: doing(), source }),
        Err(_) => Err(Error::Timeout { doing: doing() }),
    }
}

/// Makes a call that may change the object `name` of kind `K`, and counts it.
pub async fn write<K: Resource<DynamicType = ()>, T>(
    metrics: &Metrics,
    verb: Verb,
    name: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    let kind = K::kind(&());
    metrics.wrote(verb, &kind);
    read(|| format!("{} {kind} {name}", verb.as_str()), call).await
}
