//! Takes routes back that hurt users here, without asking anybody. Looks at counters whenever lines were counted, and
//! at the service itself where counters are only a suspicion ([`super::guards`]). Does I/O: connections to backends.
//!
//! A route stays on the service while its safe side takes no connections: there would be nowhere to go.

use super::force::Force;
use super::guards::{Armed, Finding, Guards};
use crate::names::{PathPrefix, RouteId};
use crate::state::{State, now_micros};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stomaton_crds::edge_state::{Latch, Why};
use stomaton_crds::v1alpha1::{EdgeConfigSpec, EdgeRoute};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// Answers that do not come raise no event.
const TICK: Duration = Duration::from_millis(500);
/// Whoever refuses does so at once.
const REFUSED_WITHIN: Duration = Duration::from_millis(50);
/// A service that takes no connection so often, this far apart, is gone and not only restarting its listener.
const TRIES: u32 = 3;
const APART: Duration = Duration::from_millis(100);
/// A service that does not say a byte to two requests in turn, for so long each, hangs.
const MUTE_FOR: Duration = Duration::from_secs(1);

/// The newest structure that is in force.
pub(super) type InForce = watch::Receiver<Option<Arc<EdgeConfigSpec>>>;

/// The part of the agent that takes routes back by itself.
pub(super) struct Guarding {
    pub(super) force: Arc<Force>,
    pub(super) state: Arc<State>,
    pub(super) structure: InForce,
}

/// For how long what was looked at and not found to be so is not looked at again. Users who do not ask equally often
/// can make a service look silent for ever, and it must not be asked all the time.
fn rest_of(why: Why) -> Duration {
    Duration::from_secs(if why == Why::MissingAnswers { 10 } else { 1 })
}

/// A finding that is being looked into, or was and was not so.
type Doubt = (String, Why);

impl Guarding {
    /// Guards, for ever.
    pub(super) async fn run(mut self) {
        let (begun, mut guards) = (Instant::now(), Guards::default());
        let mut checks: JoinSet<(Finding, bool)> = JoinSet::new();
        let mut busy: BTreeSet<Doubt> = BTreeSet::new();
        let mut rest: BTreeMap<Doubt, Instant> = BTreeMap::new();
        loop {
            let now = Instant::now();
            rest.retain(|_, until| *until > now);
            for finding in self.look(&mut guards, begun.elapsed()) {
                let doubt = (finding.route.clone(), finding.why);
                if !rest.contains_key(&doubt)
                    && let Some(backends) = self.backends(&finding.route)
                    && busy.insert(doubt)
                {
                    checks.spawn(async move {
                        let is_so = backends.hurt(finding.why).await;
                        (finding, is_so)
                    });
                }
            }
            tokio::select! {
                biased;
                Some(Ok((finding, is_so))) = checks.join_next() => {
                    let doubt = (finding.route.clone(), finding.why);
                    busy.remove(&doubt);
                    if is_so {
                        self.latch(finding);
                    } else {
                        let rested = Instant::now() + rest_of(doubt.1);
                        rest.insert(doubt, rested);
                    }
                }
                () = self.state.counted() => {}
                () = gone(&mut self.structure) => self.forget(),
                () = sleep(TICK) => {}
            }
        }
    }

    /// What is found of the routes that may be on the service now.
    fn look(&self, guards: &mut Guards, now: Duration) -> Vec<Finding> {
        let Some(config) = self.structure.borrow().clone() else { return Vec::new() };
        let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        self.force.look(|spec, latches| {
            self.state.read(|state| {
                let armed =
                    config.routes.iter().filter(|route| !route.guards.is_empty()).filter_map(|route| {
                        let weights = spec?.routes.get(&route.id)?;
                        let on_service =
                            weights.permille.keys().any(|audience| weights.effective(audience) > 0);
                        let is_armed = on_service && !latches.contains_key(&route.id);
                        let counters = state.counters.get(&route.id);
                        is_armed.then_some(Armed {
                            route: &route.id,
                            weights,
                            guards: &route.guards,
                            counters,
                        })
                    });
                guards.look(now, armed)
            })
        })
    }

    fn backends(&self, route: &str) -> Option<Backends> {
        let config = self.structure.borrow().clone()?;
        let route = config.routes.iter().find(|r| r.id == route)?;
        let at = |key: &String| config.backends.get(key)?.parse().ok();
        Some(Backends { safe: at(&route.safe)?, target: at(route.target.as_ref()?)?, path: path(route) })
    }

    fn latch(&self, Finding { route, attempt, why, counted }: Finding) {
        let Ok(id) = RouteId::parse(&route) else { return };
        let latch = Latch { attempt, revision: 0, why, at_micros: now_micros(), counted: Some(counted) };
        let (outcome, revision) = self.force.latch(&id, latch);
        info!(route, attempt, revision, ?why, ?outcome, "a guard of this pod tripped");
    }

    /// Drops latches of routes that neither the structure nor the weights know any more.
    fn forget(&self) {
        if let Some(config) = &*self.structure.borrow() {
            self.force.forget(&config.routes.iter().map(|route| route.id.as_str()).collect());
        }
    }
}

/// Returns when there is a newer structure; never, when there cannot be one.
async fn gone(structure: &mut InForce) {
    if structure.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A path of the route, as the service has it, to ask it something by.
fn path(route: &EdgeRoute) -> String {
    let path = route.target_rewrite.as_deref().unwrap_or(&route.path_prefix);
    // What was refused by the renderer is still in the object.
    PathPrefix::parse(path).map_or_else(|_| "/".to_owned(), |path| path.to_string())
}

/// Both sides of a route.
#[derive(Clone, Debug)]
struct Backends {
    safe: SocketAddr,
    target: SocketAddr,
    path: String,
}

impl Backends {
    /// Whether it is as suspected, and there is somewhere to go back to.
    async fn hurt(&self, why: Why) -> bool {
        let is_so = match why {
            Why::BadShare => true,
            Why::NoEndpoints => self.is_gone().await,
            Why::MissingAnswers => self.is_mute().await,
            Why::Kill => false,
        };
        if is_so && refuses(self.safe).await {
            warn!(?why, safe = %self.safe, "a guard trips, but the safe side takes no connection: traffic stays");
            return false;
        }
        is_so
    }

    async fn is_gone(&self) -> bool {
        for attempt in 0..TRIES {
            if attempt > 0 {
                sleep(APART).await;
            }
            if !refuses(self.target).await {
                return false;
            }
        }
        true
    }

    /// Whether the service says nothing at all to a request that changes nothing. Any answer will do, also a refusal.
    async fn is_mute(&self) -> bool {
        for _ in 0..2 {
            if timeout(MUTE_FOR, self.any_word()).await.is_ok() {
                return false;
            }
        }
        true
    }

    /// Returns when the service does anything.
    async fn any_word(&self) {
        let Ok(mut stream) = TcpStream::connect(self.target).await else { return };
        let request = format!(
            "OPTIONS {} HTTP/1.1\r\nhost: {}\r\nuser-agent: stomaton-edge\r\nconnection: close\r\n\r\n",
            self.path, self.target
        );
        if stream.write_all(request.as_bytes()).await.is_ok() {
            // A connection that is closed without a word is a word.
            let _ = stream.read(&mut [0; 1]).await;
        }
    }
}

/// Whether nobody takes connections there. A host that is silent may only be slow.
async fn refuses(address: SocketAddr) -> bool {
    let connected = timeout(REFUSED_WITHIN, TcpStream::connect(address)).await;
    matches!(connected, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn between(safe: SocketAddr, target: SocketAddr) -> Backends {
        Backends { safe, target, path: "/a".into() }
    }

    #[tokio::test]
    async fn a_service_that_takes_no_connection_is_gone_and_one_that_does_is_not() {
        let (_monolith, safe) = listener().await;
        let (service, target) = listener().await;
        assert!(!between(safe, target).hurt(Why::NoEndpoints).await);
        drop(service);
        assert!(between(safe, target).hurt(Why::NoEndpoints).await);
        assert!(!between(safe, target).hurt(Why::MissingAnswers).await, "it refuses, so it is not mute");
    }

    #[tokio::test]
    async fn a_service_that_takes_connections_and_says_nothing_is_mute() {
        let (_monolith, safe) = listener().await;
        let (service, target) = listener().await;
        assert!(between(safe, target).hurt(Why::MissingAnswers).await);
        let answering = tokio::spawn(async move {
            loop {
                let (mut stream, _) = service.accept().await.unwrap();
                stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await.unwrap();
            }
        });
        assert!(!between(safe, target).hurt(Why::MissingAnswers).await);
        answering.abort();
    }

    #[tokio::test]
    async fn nothing_comes_back_to_a_monolith_that_takes_no_connection() {
        let (monolith, safe) = listener().await;
        let (_service, target) = listener().await;
        assert!(between(safe, target).hurt(Why::BadShare).await);
        drop(monolith);
        assert!(!between(safe, target).hurt(Why::BadShare).await);
    }

    #[test]
    fn a_path_that_cannot_be_is_not_sent() {
        let route = |path: &str| EdgeRoute { path_prefix: path.into(), ..EdgeRoute::default() };
        assert_eq!(path(&route("/api/v1")), "/api/v1");
        assert_eq!(path(&route("/a HTTP/1.1\r\nx: y")), "/");
        let rewritten = EdgeRoute { target_rewrite: Some("/internal".into()), ..route("/api") };
        assert_eq!(path(&rewritten), "/internal");
    }
}
