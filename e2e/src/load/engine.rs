//! Runs a load: starts its clients, paces them, records every answer. Does I/O.

use super::connection::{Connection, Exchange};
use super::header::HeaderFile;
use super::record::{EdgeHeader, Loss, Mode, Origins, Record};
use super::store::{Clock, Store};
use super::summary::Summary;
use super::tls::Tls;
use super::wire;
use super::workload::{PathSpec, Rota, Workload};
use bytes::Bytes;
use http::Request;
use http::uri::{Authority, Scheme};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// No load keeps more records than this; it ends when they are full.
pub const MAX_REQUESTS: u32 = 5_000_000;

/// Everything that describes a load. [`super::Args::config`] makes and checks one.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to connect to.
    pub address: SocketAddr,
    /// `Host` or `:authority` of every request.
    pub authority: Authority,
    /// How to speak TLS; none: plain HTTP.
    pub tls: Option<Tls>,
    /// The requests to send, at least one, at most 65,535.
    pub paths: Vec<PathSpec>,
    /// Body of POST, PUT and PATCH requests.
    pub body: Bytes,
    /// Further headers of every request.
    pub header_files: Vec<HeaderFile>,
    /// One entry per client, at least one, at most 65,535.
    pub clients: Vec<Mode>,
    /// How requests are paced.
    pub pace: Pace,
    /// Number of distinct cohort keys, at least 1.
    pub keys: u32,
    /// Decides the cohort keys.
    pub seed: u64,
    /// No request is sent later than this after the start.
    pub duration: Duration,
    /// No more requests than this are sent; at most [`MAX_REQUESTS`].
    pub requests: u32,
    /// One-way delay between client and target.
    pub delay: Duration,
    /// Whether keep-alive clients look for a closed connection before they use it again.
    pub check_eof: bool,
    /// How long a connect may take, and how long an answer.
    pub timeout: Duration,
}

/// When the next request is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many requests a second over all clients, however long answers take.
    Open {
        /// Requests per second, at least 1.
        rate: u32,
    },
    /// Each client waits this long after an answer.
    Closed {
        /// The wait.
        think: Duration,
    },
}

/// What a load has done so far, as `/summary` shows it and as it is printed at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Whether every client has finished.
    pub done: bool,
    /// Start, in microseconds since the Unix epoch.
    pub started_micros: u64,
    /// How long the load has run, or ran.
    pub seconds: f64,
    /// Open loop: how much later than due the latest request was sent, because no client was free.
    /// More than a few milliseconds means that the rate needs more clients.
    pub late_ms_max: f64,
    /// The paths that records and summary refer to by index.
    pub path_names: Vec<String>,
    /// The counts.
    #[serde(flatten)]
    pub summary: Summary,
}

/// A load that was started. Dropping it ends the load at once.
pub struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    done: watch::Receiver<Option<Duration>>,
    _clients: JoinSet<()>,
}

struct Shared {
    config: Config,
    workload: Workload,
    clock: Clock,
    store: Store,
    next: AtomicU32,
}

impl Load {
    /// Starts the clients.
    pub fn start(config: Config) -> Load {
        let workload = Workload::new(
            if config.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
            config.authority.clone(),
            config.paths.clone(),
            config.body.clone(),
            config.keys,
            config.seed,
        );
        let store = Store::expecting(config.requests as usize);
        let shared =
            Arc::new(Shared { config, workload, clock: Clock::start(), store, next: AtomicU32::new(0) });
        let (stop, stopped) = watch::channel(false);
        let (finished, done) = watch::channel(None);

        let mut running = JoinSet::new();
        for (index, mode) in shared.config.clients.iter().enumerate() {
            let client = Client::new(index as u16, *mode, Arc::clone(&shared));
            running.spawn(client.run(stopped.clone()));
        }
        let mut clients = JoinSet::new();
        let clock = shared.clock;
        clients.spawn(async move {
            running.join_all().await;
            finished.send_replace(Some(clock.began().elapsed()));
        });
        Load { shared, stop, done, _clients: clients }
    }

    /// Lets every request in flight end, and sends no more.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Returns once every client has finished.
    pub async fn finished(&self) {
        // An error means that the clients are gone, which is as finished as can be.
        let _ = self.done.clone().wait_for(Option::is_some).await;
    }

    /// What was done so far.
    pub fn report(&self) -> Report {
        let ended = *self.done.borrow();
        let (summary, late) = self.shared.store.summary();
        let seconds = ended.unwrap_or_else(|| self.shared.clock.began().elapsed()).as_secs_f64();
        let name = |spec: &PathSpec| format!("{} {}", spec.method, spec.path);
        Report {
            done: ended.is_some(),
            started_micros: self.shared.clock.began_micros(),
            seconds: (seconds * 1000.0).round() / 1000.0,
            late_ms_max: late.as_micros() as f64 / 1000.0,
            path_names: self.shared.config.paths.iter().map(name).collect(),
            summary,
        }
    }

    /// At most `limit` records from index `from`, in the order in which they were completed.
    pub fn records(&self, from: usize, limit: usize) -> Vec<Record> {
        self.shared.store.records(from, limit)
    }
}

/// One worker with at most one connection.
struct Client {
    index: u16,
    mode: Mode,
    rota: Rota,
    shared: Arc<Shared>,
    connection: Option<Connection>,
    /// TLS: which certificate answered when the last connection was made.
    certificate: Option<Arc<str>>,
    origins: Origins,
}

/// A request that is due.
struct Due {
    seq: u32,
    late: Duration,
}

impl Client {
    fn new(index: u16, mode: Mode, shared: Arc<Shared>) -> Self {
        let rota = Rota {
            client: u32::from(index),
            clients: shared.config.clients.len() as u32,
            keys: shared.config.keys,
            paths: shared.config.paths.len() as u16,
        };
        Client { index, mode, rota, shared, connection: None, certificate: None, origins: Origins::default() }
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut sent = 0;
        loop {
            let due = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                due = self.next(sent) => due,
            };
            let Some(due) = due else { return };
            self.perform(sent, due).await;
            sent += 1;
        }
    }

    /// Waits until this client's next request is due; `None` when the load is over.
    async fn next(&self, sent: u64) -> Option<Due> {
        let Config { pace, duration, requests, .. } = self.shared.config;
        let began = self.shared.clock.began();
        let take = || Some(self.shared.next.fetch_add(1, Ordering::Relaxed)).filter(|seq| *seq < requests);
        match pace {
            Pace::Open { rate } => {
                let seq = take()?;
                let offset = Duration::from_nanos(u64::from(seq) * 1_000_000_000 / u64::from(rate));
                if offset >= duration {
                    return None;
                }
                sleep_until(began + offset).await;
                Some(Due { seq, late: (began + offset).elapsed() })
            }
            Pace::Closed { think } => {
                // First requests are spread over one think time, or all clients would move in step.
                let clients = self.rota.clients;
                let wait = if sent == 0 { think * self.rota.client / clients } else { think };
                let due = Instant::now() + wait;
                if due >= began + duration {
                    return None;
                }
                if !wait.is_zero() {
                    sleep_until(due).await;
                }
                Some(Due { seq: take()?, late: Duration::ZERO })
            }
        }
    }

    /// Sends one request and records what became of it.
    async fn perform(&mut self, n: u64, due: Due) {
        let turn = self.rota.turn(n);
        let mut request = self.shared.workload.request(self.mode, self.index, due.seq, turn);
        let further = self.shared.config.header_files.iter().filter_map(HeaderFile::current);
        request.headers_mut().extend(further);
        let (sent_micros, outcome) = self.send(request).await;
        let received_micros = self.shared.clock.now_micros();

        let (status, loss, parts) = match outcome {
            Ok(parts) => (parts.status.as_u16(), None, Some(parts)),
            Err(loss) => (0, Some(loss), None),
        };
        let header = |name| parts.as_ref().and_then(|p| p.headers.get(name)).and_then(|v| v.to_str().ok());
        let edge = header("x-stomaton-edge").map(EdgeHeader::parse).unwrap_or_default();
        let record = Record {
            sent_micros,
            received_micros,
            origin: self.origins.share(&edge, header("x-served-by"), self.certificate.as_deref()),
            key: turn.key,
            seq: due.seq,
            client: self.index,
            path: turn.path,
            status,
            bucket: edge.bucket,
            mode: self.mode,
            loss,
        };
        self.shared.store.push(record, due.late);
    }

    /// Sends a request once. It goes to a second connection only when the first had refused it before
    /// a byte was written; whatever was written is never written again.
    async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> (u64, Result<http::response::Parts, Loss>) {
        let look = self.shared.config.check_eof;
        let mut kept = self.connection.take().filter(|c| c.is_usable(look));
        loop {
            let was_kept = kept.is_some();
            let due_micros = self.shared.clock.now_micros();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => match self.connect().await {
                    Ok(connection) => connection,
                    Err(loss) => return (due_micros, Err(loss)),
                },
            };
            let sent_micros = self.shared.clock.now_micros();
            match timeout(self.shared.config.timeout, connection.exchange(request)).await {
                Ok(Exchange::Answer(parts)) => {
                    self.connection = Some(connection).filter(|_| self.mode != Mode::Fresh);
                    return (sent_micros, Ok(parts));
                }
                Ok(Exchange::Lost(loss)) => return (sent_micros, Err(loss)),
                Ok(Exchange::Unsent(unsent)) if was_kept => request = *unsent,
                Ok(Exchange::Unsent(_)) => return (sent_micros, Err(Loss::Eof)),
                Err(_) => return (sent_micros, Err(Loss::Timeout)),
            }
        }
    }

    async fn connect(&mut self) -> Result<Connection, Loss> {
        let Config { address, delay, timeout: limit, ref tls, .. } = self.shared.config;
        let connect = async {
            let (wire, probe) = wire::connect(address, delay).await.map_err(|_| Loss::Connect)?;
            let Some(tls) = tls else { return Ok((wire, probe, None)) };
            let (wire, certificate) = tls.over(self.mode, wire).await.map_err(|_| Loss::Tls)?;
            Ok((wire, probe, Some(certificate)))
        };
        let connected = timeout(limit, connect).await.unwrap_or(Err(Loss::Connect));
        self.certificate = None;
        let (wire, probe, certificate) = connected?;
        self.certificate = certificate;
        Connection::start(self.mode, wire, probe).await.map_err(|_| Loss::Protocol)
    }
}
