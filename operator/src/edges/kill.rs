//! Tells every edge pod of a Gateway to take a route back, past the API server. I/O.
//!
//! It goes out at the same moment as EdgeWeights are written, and whichever arrives first acts. Each pod is told until
//! it answers, is gone, or [`GIVE_UP`] is over: then the weights, or the end of the pod, must do.

use super::{Edges, Key};
use futures::future::join_all;
use std::{sync::Arc, time::Duration};
use stomaton_crds::kill::{Killed, PATH, SIGNATURE};
use tokio::time::{Instant, sleep};

/// Longest that one pod may take to answer once.
const PATIENCE: Duration = Duration::from_secs(1);
/// Wait between two tries.
const AGAIN: Duration = Duration::from_millis(100);
/// Less than a process has to stop, so that no stop cuts off a kill.
const GIVE_UP: Duration = Duration::from_secs(10);

/// What every pod is told, signed once.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The message.
    pub body: Vec<u8>,
    /// Its signature.
    pub signature: String,
    /// Whom to tell: the name of each pod, and where its agent answers.
    pub pods: Vec<(String, String)>,
}

/// Why a pod was not told.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot reach the agent: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the agent answered {0}: {1}")]
    Refused(reqwest::StatusCode, String),
}

/// Sends kills.
#[derive(Clone)]
pub struct Killer {
    edges: Arc<Edges>,
    http: reqwest::Client,
}

impl Killer {
    /// For the pods that `edges` knows.
    pub fn new(edges: Arc<Edges>) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap_or_default();
        Self { edges, http }
    }

    /// Has `attempt` of a route taken back by every edge pod of `gateway`.
    pub async fn kill(&self, gateway: &Key, route_id: &str, attempt: i32) {
        let Some(order) = self.edges.order(gateway, route_id, attempt) else {
            return tracing::warn!(%gateway, route_id, "no key for kills: only EdgeWeights take the route back");
        };
        let told = order.pods.iter().map(|(pod, at)| self.tell(gateway, pod, at, &order));
        join_all(told).await;
    }

    async fn tell(&self, gateway: &Key, pod: &str, at: &str, order: &Order) {
        let begun = Instant::now();
        let mut failures = 0_u32;
        while begun.elapsed() < GIVE_UP && self.edges.is_at(gateway, pod, at) {
            match self.once(at, order).await {
                Ok(Killed { outcome, revision }) => {
                    let ms = begun.elapsed().as_millis();
                    return tracing::info!(%gateway, pod, ?outcome, revision, ms, "the edge pod was told");
                }
                Err(error) if failures == 0 => {
                    tracing::warn!(%gateway, pod, %error, "cannot tell the edge pod yet");
                }
                Err(_) => {}
            }
            failures += 1;
            sleep(AGAIN).await;
        }
        tracing::warn!(%gateway, pod, failures, "the edge pod was not told: EdgeWeights or its end must do");
    }

    async fn once(&self, at: &str, order: &Order) -> Result<Killed, Error> {
        let request = self.http.post(format!("{at}{PATH}")).header(SIGNATURE, &order.signature);
        let answer = request.body(order.body.clone()).send().await?;
        let status = answer.status();
        if status.is_success() {
            Ok(answer.json().await?)
        } else {
            Err(Error::Refused(status, words(answer).await))
        }
    }
}

/// What an agent says to a refusal, or the beginning of it.
async fn words(answer: reqwest::Response) -> String {
    answer.text().await.unwrap_or_default().trim().chars().take(200).collect()
}
