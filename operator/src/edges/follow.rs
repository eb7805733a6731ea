//! Watches edge pods and holds a state stream to each (I/O). Feeds [`Edges`].

use super::{Edges, Key, SILENT_AFTER};
use crate::{context::Context, watch};
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    runtime::{watcher, watcher::Event},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use stomaton_crds::{
    edge_state::EdgeState,
    keys::{COMPONENT, EDGE_STATE_PORT, GATEWAY},
};
use tokio::{task::JoinSet, time::timeout};

/// Wait between two tries to reach a pod: short, because a pod that cannot be heard cannot acknowledge.
const RECONNECT: Duration = Duration::from_millis(100);
/// A state line longer than this is not one: the connection is dropped before it fills our memory.
const MAX_LINE: usize = 8 << 20;

/// The pods that are read, with the address of each. Dropping an entry ends its reading.
type Streams = HashMap<(Key, String), (String, JoinSet<()>)>;

/// Why a state stream ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot reach the agent: {0}")]
    Http(#[from] reqwest::Error),
    #[error("silent for {} s", SILENT_AFTER.as_secs())]
    Silent,
    #[error("a state line is not valid: {0}")]
    Line(#[from] serde_json::Error),
    #[error("a state line is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("the agent closed the stream")]
    Closed,
}

/// Follows every edge pod that this operator cares for, as long as it is polled.
pub async fn run(ctx: Arc<Context>) {
    let config = watcher::Config::default().labels(&format!("{COMPONENT}=edge,{GATEWAY}"));
    let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(1)).build().unwrap_or_default();
    let pods = watch::alone(&ctx, "edges", ctx.watched::<Pod>(), config);
    let edges = &ctx.edges;
    let silence = async {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tick.tick().await;
            edges.notice_silence();
        }
    };
    tokio::select! {
        () = follow(pods, http, edges) => {}
        () = silence => {}
    }
}

async fn follow(
    pods: impl Stream<Item = watcher::Result<Event<Pod>>>,
    http: reqwest::Client,
    edges: &Arc<Edges>,
) {
    let mut streams = Streams::new();
    let mut listed: Option<Vec<(Key, String)>> = None;
    let mut pods = std::pin::pin!(pods);
    while let Some(event) = pods.next().await {
        match event {
            Ok(Event::Init) => listed = Some(Vec::new()),
            Ok(Event::InitApply(pod)) => {
                listed.get_or_insert_default().extend(identity(&pod));
                seen(&pod, &http, edges, &mut streams);
            }
            Ok(Event::Apply(pod)) => seen(&pod, &http, edges, &mut streams),
            Ok(Event::Delete(pod)) => {
                if let Some(id) = identity(&pod) {
                    gone(&id, edges, &mut streams);
                }
            }
            Ok(Event::InitDone) => {
                // What a new list no longer has was deleted while we were not looking.
                let now = listed.take().unwrap_or_default();
                let missing: Vec<_> = streams.keys().filter(|id| !now.contains(id)).cloned().collect();
                missing.iter().for_each(|id| gone(id, edges, &mut streams));
            }
            // Noted and left out by the watch itself.
            Err(_) => {}
        }
    }
}

fn identity(pod: &Pod) -> Option<(Key, String)> {
    let gateway = pod.labels().get(GATEWAY)?;
    Some((Key::new(gateway).within(&pod.namespace()?), pod.name_any()))
}

/// A pod counts from the moment its containers run until they are over: unready and terminating ones still serve.
fn seen(pod: &Pod, http: &reqwest::Client, edges: &Arc<Edges>, streams: &mut Streams) {
    let Some(id) = identity(pod) else { return };
    let status = pod.status.clone().unwrap_or_default();
    let running = status.phase.as_deref() == Some("Running");
    let Some(ip) = status.pod_ip.filter(|_| running) else { return gone(&id, edges, streams) };
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    edges.pod_seen(&id.0, &id.1, ready, pod.metadata.deletion_timestamp.is_some());
    let at = agent_at(&ip);
    edges.pod_is_at(&id.0, &id.1, &at, pod.uid());
    if streams.get(&id).is_some_and(|(address, _)| *address == at) {
        return;
    }
    let mut reading = JoinSet::new();
    reading.spawn(keep_reading(at.clone(), id.clone(), http.clone(), edges.clone()));
    streams.insert(id, (at, reading));
}

/// Where the agent of the pod with this address answers.
fn agent_at(ip: &str) -> String {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    format!("http://{host}:{EDGE_STATE_PORT}")
}

fn gone(id: &(Key, String), edges: &Edges, streams: &mut Streams) {
    streams.remove(id);
    edges.pod_gone(&id.0, &id.1);
}

/// Reads a pod's stream and begins anew whenever it ends, until the pod is gone.
async fn keep_reading(at: String, (gateway, pod): (Key, String), http: reqwest::Client, edges: Arc<Edges>) {
    let url = format!("{at}/v1/state");
    loop {
        let Err(error) = read(&url, &http, |state| edges.state_received(&gateway, &pod, state)).await;
        tracing::debug!(%pod, %error, "state stream ended");
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn read(
    url: &str,
    http: &reqwest::Client,
    mut on_line: impl FnMut(EdgeState),
) -> Result<std::convert::Infallible, Error> {
    let answer = timeout(SILENT_AFTER, http.get(url).send()).await.map_err(|_| Error::Silent)??;
    let mut chunks = answer.error_for_status()?.bytes_stream();
    let mut buffer = Vec::new();
    loop {
        let chunk = timeout(SILENT_AFTER, chunks.try_next()).await.map_err(|_| Error::Silent)??;
        buffer.extend_from_slice(&chunk.ok_or(Error::Closed)?);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            on_line(serde_json::from_slice(&buffer[..end])?);
            buffer.drain(..=end);
        }
        if buffer.len() > MAX_LINE {
            return Err(Error::TooLong);
        }
    }
}
