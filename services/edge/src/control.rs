//! What the agent asks of the supervisor and how it is answered: one line each way over a unix socket. A request is
//! a verb (`status`, `certificates`, `test PATH`, `reload`, `reopen`); an answer is JSON. Does I/O (the client).

use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf, str::FromStr, time::Duration};
use stomaton_crds::edge_state::CertificateFault;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

/// Longer than anything the supervisor waits for itself.
const PATIENCE: Duration = Duration::from_secs(15);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// How NGINX is.
    Status,
    /// Which certificates it has.
    Certificates,
    /// Whether NGINX accepts the configuration in this file.
    Test(PathBuf),
    /// Read the current configuration; answered when old workers take no new connections.
    Reload,
    /// Open the log files anew; answered when nothing writes to renamed ones.
    Reopen,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status => f.write_str("status"),
            Self::Certificates => f.write_str("certificates"),
            Self::Test(path) => write!(f, "test {}", path.display()),
            Self::Reload => f.write_str("reload"),
            Self::Reopen => f.write_str("reopen"),
        }
    }
}

impl FromStr for Verb {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        match line.split_once(' ') {
            None if line == "status" => Ok(Self::Status),
            None if line == "certificates" => Ok(Self::Certificates),
            None if line == "reload" => Ok(Self::Reload),
            None if line == "reopen" => Ok(Self::Reopen),
            Some(("test", path)) => Ok(Self::Test(path.into())),
            _ => Err("unknown verb; known are: status, certificates, test PATH, reload, reopen".into()),
        }
    }
}

/// How NGINX is, after what was asked has been done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of NGINX.
    pub version: Version,
    /// Whether it was started.
    pub running: bool,
    /// Process ids of workers that take connections.
    pub workers: Vec<i32>,
    /// Process ids of workers that only finish what they have.
    pub retiring: Vec<i32>,
    /// Milliseconds since NGINX was started.
    pub uptime_millis: u64,
    /// Microseconds that the request took.
    pub took_micros: u64,
}

/// A certificate that is mounted, without its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Its directory.
    pub id: String,
    /// SHA-256, in hex; none: it cannot be read.
    pub fingerprint: Option<String>,
    /// Beginning of its validity, seconds since the epoch.
    pub not_before: i64,
    /// End of its validity, seconds since the epoch.
    pub not_after: i64,
    /// Names that it is for.
    pub names: Vec<String>,
    /// Why NGINX cannot serve it.
    pub fault: Option<CertificateFault>,
}

/// A version of NGINX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub u16, pub u16, pub u16);

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().splitn(3, '.').map(str::parse);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Ok(Self(major, minor, patch)),
            _ => Err(format!("{text:?} is not a version of NGINX, such as 1.31.3")),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The answer as it stands on the line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    /// Done.
    Ok(Status),
    /// What was asked for.
    Certificates(Vec<Certificate>),
    /// Not done, and why.
    Error(String),
}

/// Why an answer did not come.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens, or the connection broke.
    #[error("the supervisor does not answer at {socket}: {cause}; is the NGINX container running?")]
    Unreachable {
        /// Where it was expected.
        socket: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It answered that it could not do it.
    #[error("{0}")]
    Refused(String),
}

/// The supervisor, seen from the agent.
#[derive(Clone, Debug)]
pub struct Supervisor {
    socket: PathBuf,
}

impl Supervisor {
    /// The one that listens at `socket`.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, verb: Verb) -> Result<Status, ControlError> {
        match self.answer(&verb).await? {
            Answer::Ok(status) => Ok(status),
            other => Err(unexpected(&verb, &other)),
        }
    }

    /// Asks for the certificates.
    pub async fn certificates(&self) -> Result<Vec<Certificate>, ControlError> {
        match self.answer(&Verb::Certificates).await? {
            Answer::Certificates(certificates) => Ok(certificates),
            other => Err(unexpected(&Verb::Certificates, &other)),
        }
    }

    async fn answer(&self, verb: &Verb) -> Result<Answer, ControlError> {
        let talk = tokio::time::timeout(PATIENCE, self.talk(verb));
        let line = talk.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let answer = line.and_then(|line| serde_json::from_str(&line).map_err(std::io::Error::other));
        match answer {
            Ok(Answer::Error(reason)) => Err(ControlError::Refused(reason)),
            Ok(answer) => Ok(answer),
            Err(cause) => Err(ControlError::Unreachable { socket: self.socket.clone(), cause }),
        }
    }

    async fn talk(&self, verb: &Verb) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(format!("{verb}\n").as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        Ok(line)
    }
}

/// An answer to something else: the two are of different versions.
fn unexpected(verb: &Verb, answer: &Answer) -> ControlError {
    ControlError::Refused(format!("the supervisor answered {verb} with {answer:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_survives_the_wire() {
        let test = Verb::Test("/run/edge/nginx/gen-1/nginx.conf".into());
        for verb in [Verb::Status, Verb::Certificates, test, Verb::Reload, Verb::Reopen] {
            assert_eq!(verb.to_string().parse(), Ok(verb));
        }
        assert!("stop".parse::<Verb>().is_err());
    }

    #[test]
    fn versions_compare_by_number() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("1.9.15") < version("1.27.4"));
        assert!("nginx".parse::<Version>().is_err());
    }
}
