//! Asks NGINX itself, over a private unix socket, what it serves. Does I/O.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(1);

/// Why NGINX did not say.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("cannot connect to NGINX: {0}")]
    Connect(#[from] std::io::Error),
    #[error("NGINX broke the connection: {0}")]
    Http(#[from] hyper::Error),
    #[error("the probe's request cannot be made: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("NGINX answered {0}, not a revision")]
    Answer(StatusCode),
    #[error("NGINX did not answer the probe within 1 s")]
    TimedOut,
}

/// The private probe.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    socket: PathBuf,
}

impl Probe {
    pub(super) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Revision of the configuration of whichever worker takes a fresh connection.
    pub(super) async fn config(&self) -> Result<i64, ProbeError> {
        self.ask("/config").await
    }

    /// Revision of the weights that NGINX sees; 0: none.
    pub(super) async fn weights(&self) -> Result<i64, ProbeError> {
        match self.ask("/revision").await {
            Err(ProbeError::Answer(StatusCode::NOT_FOUND)) => Ok(0),
            other => other,
        }
    }

    async fn ask(&self, path: &'static str) -> Result<i64, ProbeError> {
        timeout(PATIENCE, self.talk(path)).await.unwrap_or(Err(ProbeError::TimedOut))
    }

    async fn talk(&self, path: &'static str) -> Result<i64, ProbeError> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(path)
            .header(header::HOST, "probe")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            Ok::<_, ProbeError>((status, body))
        };
        let (exchanged, _) = tokio::join!(exchange, connection);
        let (status, body) = exchanged?;
        let text = std::str::from_utf8(&body).unwrap_or_default();
        let number = text.strip_prefix("config=").unwrap_or(text).trim().parse();
        number.ok().filter(|_| status == StatusCode::OK).ok_or(ProbeError::Answer(status))
    }
}
