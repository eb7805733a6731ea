//! Asks the other agents of the Gateway what they hold on its safe side: a pod that starts while a route is being
//! taken back must not send users to the service. Does I/O.

use crate::names::RouteId;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;
use stomaton_crds::edge_state::{EdgeState, Latch};

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

/// Longest that this may hold up a start. Whoever has not answered by then may be gone.
const PATIENCE: Duration = Duration::from_secs(2);
/// A state longer than this is none.
const MAX_STATE: usize = 8 << 20;

/// Gives every latch of every agent at `peers` that answers in time to `each`, as the answers come. Nobody there is
/// fine: the first pod has no peers.
pub(super) async fn ask(peers: &str, mut each: impl FnMut(&RouteId, Latch)) {
    let deadline = Instant::now() + PATIENCE;
    let addresses: Vec<SocketAddr> = match timeout_at(deadline, lookup_host(peers)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return info!(peers, %error, "no peers are known; going on"),
        Err(_) => return info!(peers, "names are not resolved in time; going on"),
    };
    let mut asked: JoinSet<_> = addresses.iter().map(|peer| state_of(*peer)).collect();
    let mut answered = 0;
    while let Ok(Some(answer)) = timeout_at(deadline, asked.join_next()).await {
        match answer.map_err(Into::into).and_then(|answer| answer) {
            Ok(state) => {
                answered += 1;
                for (route, latch) in state.latches {
                    // What is no identity cannot be a route here.
                    if let Ok(route) = RouteId::parse(&route) {
                        each(&route, latch);
                    }
                }
            }
            Err(error) => debug!(%error, "a peer did not answer"),
        }
    }
    info!(peers = addresses.len(), answered, "asked for latches");
}

async fn state_of(peer: SocketAddr) -> Result<EdgeState, Box<dyn Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(peer).await?)).await?;
    let request = Request::get("/v1/state?once=true")
        .header(header::HOST, "edge")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("{peer} answered {}", answer.status()).into());
        }
        Ok(Limited::new(answer.into_body(), MAX_STATE).collect().await?.to_bytes())
    };
    let (exchanged, _) = tokio::join!(exchange, connection);
    let body: Bytes = exchanged.map_err(|error: Box<dyn Error + Send + Sync>| error)?;
    Ok(serde_json::from_slice(&body)?)
}
