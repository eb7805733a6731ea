//! Edge pods that are simulated: each answers on a loopback address of its own as an agent would, from the real
//! EdgeConfig and EdgeWeights. It acknowledges at once, counts what it is told to, and says a line a second. I/O.

use crate::Fault;
use axum::{Router, body::Body, extract::State, routing::get};
use e2e::harness::wait::watch;
use futures::StreamExt as _;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::{
    convert::Infallible,
    fmt::Debug,
    net::Ipv4Addr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};
use stomaton_crds::{
    edge_state::EdgeState,
    keys::{AUDIENCE_PUBLIC, EDGE_STATE_PORT},
    v1alpha1::{EdgeConfig, EdgeWeights},
};
use tokio::{net::TcpListener, sync::watch::Sender, task::JoinSet, time::timeout};

/// As real agents do when nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A simulated agent; ends when dropped.
pub struct Agent {
    /// Of the pod.
    pub address: Ipv4Addr,
    state: Arc<Sender<EdgeState>>,
    _tasks: JoinSet<()>,
}

impl Agent {
    /// Starts the agent of this pod of a Gateway.
    pub async fn start(client: &Client, namespace: &str, gateway: &str, pod: &str) -> Result<Self, Fault> {
        static COUNT: AtomicU8 = AtomicU8::new(1);
        let address = Ipv4Addr::new(127, 78, 0, COUNT.fetch_add(1, Ordering::Relaxed));
        let first = EdgeState { pod: pod.to_owned(), boot: "first".to_owned(), ..EdgeState::default() };
        let state = Arc::new(Sender::new(first));
        let listener = TcpListener::bind((address, EDGE_STATE_PORT)).await?;
        let router = Router::new().route("/v1/state", get(stream)).with_state(state.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("a simulated agent ends: {error}");
            }
        });
        let configs: Api<EdgeConfig> = Api::namespaced(client.clone(), namespace);
        tasks.spawn(follow(configs, gateway.to_owned(), state.clone(), |state, config| {
            state.seen.config = state.seen.config.max(config.spec.revision);
        }));
        let weights: Api<EdgeWeights> = Api::namespaced(client.clone(), namespace);
        tasks.spawn(follow(weights, gateway.to_owned(), state.clone(), |state, weights| {
            state.seen.weights = state.seen.weights.max(weights.spec.revision);
        }));
        Ok(Self { address, state, _tasks: tasks })
    }

    /// The service gave so many answers through this pod, so many of them bad.
    pub fn count(&self, route_id: &str, requests: u64, bad: u64) {
        self.state.send_modify(|state| {
            let audiences = state.counters.entry(route_id.to_owned()).or_default();
            let service = &mut audiences.entry(AUDIENCE_PUBLIC.to_owned()).or_default().service;
            service.requests += requests;
            service.bad += bad;
        });
    }
}

/// Takes over every state of an object from now on.
async fn follow<K>(api: Api<K>, name: String, state: Arc<Sender<EdgeState>>, see: fn(&mut EdgeState, &K))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut objects = pin!(watch(&api, &name));
    while let Some(object) = objects.next().await {
        // A watch that broke is begun anew.
        let Ok(Some(object)) = object else { continue };
        state.send_modify(|state| {
            see(state, &object);
            state.applied = state.seen;
        });
    }
}

/// A line at once, one for all that is new since the last, and one a second.
async fn stream(State(state): State<Arc<Sender<EdgeState>>>) -> Body {
    let lines = futures::stream::unfold((state.subscribe(), 0_u64), async |(mut news, said)| {
        if said > 0 {
            let _ = timeout(HEARTBEAT, news.changed()).await;
        }
        let mut line = news.borrow_and_update().clone();
        line.sequence = said + 1;
        let line = serde_json::to_string(&line).ok()? + "\n";
        Some((Ok::<_, Infallible>(line), (news, said + 1)))
    });
    Body::from_stream(lines)
}
