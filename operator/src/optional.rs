//! Kinds of other projects that a cluster may or may not serve, found by discovery and followed: one may be installed,
//! or go, while the operator runs. I/O: reads.
//!
//! Discovery instead of a watch of CustomResourceDefinitions: everybody may do it, in a namespace's own installation
//! too.

use crate::{
    api,
    backoff::jittered,
    foreign::{PodMonitor, ScaledObject},
};
use futures::{
    FutureExt, Stream, StreamExt,
    future::{Either, select},
    stream::{self, BoxStream},
};
use kube::{Client, Resource, api::ApiResource};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::watch::Sender, time::timeout};

/// Longest until a kind that came or went is noticed.
const EVERY: Duration = Duration::from_secs(30);
/// Pause while it is not even known which kinds there are.
const UNKNOWN: Duration = Duration::from_secs(1);

/// A kind that a cluster may or may not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Optional {
    /// KEDA's.
    ScaledObject,
    /// The Prometheus operator's.
    PodMonitor,
}

impl Optional {
    const ALL: [Self; 2] = [Self::ScaledObject, Self::PodMonitor];

    /// Group, version and names.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::ScaledObject => erased::<ScaledObject>(),
            Self::PodMonitor => erased::<PodMonitor>(),
        }
    }
}

fn erased<K: Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

/// Which optional kinds the cluster serves.
pub type Served = BTreeSet<Optional>;

/// What is known of them; nothing before the first answer.
#[derive(Debug)]
pub struct Kinds(Sender<Option<Served>>);

impl Default for Kinds {
    fn default() -> Self {
        Self(Sender::new(None))
    }
}

impl Kinds {
    /// Those that are served. Waits for the first answer: to take "not known yet" for "not there" would delete what
    /// works.
    pub async fn served(&self) -> Result<Served, api::Error> {
        let mut known = self.0.subscribe();
        let answer = timeout(api::TIMEOUT, known.wait_for(Option::is_some)).await;
        let served = answer.ok().and_then(Result::ok).and_then(|served| served.clone());
        served.ok_or_else(|| api::Error::Timeout { doing: "find out which kinds the cluster serves".into() })
    }

    /// Whether `kind` is known to be served now.
    pub fn has(&self, kind: Optional) -> bool {
        self.0.borrow().as_ref().is_some_and(|served| served.contains(&kind))
    }

    /// An item each time that a kind came or went. To know for the first time is no news: who needs it waits for it.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        stream::unfold(self.0.subscribe(), async |mut known| {
            loop {
                let first = known.borrow().is_none();
                known.changed().await.ok()?;
                known.mark_unchanged();
                if !first {
                    return Some(((), known));
                }
            }
        })
    }

    /// The items of `make`, called anew each time that `kind` comes, while it is served; `gone` is called when it
    /// goes.
    pub fn while_served<T: Send + 'static>(
        &self,
        kind: Optional,
        make: impl Fn() -> BoxStream<'static, T> + Send + Sync + 'static,
        gone: impl Fn() + Send + Sync + 'static,
    ) -> BoxStream<'static, T> {
        let state = (self.0.subscribe(), None::<BoxStream<'static, T>>);
        let served = move |known: &Option<Served>| known.as_ref().is_some_and(|s| s.contains(&kind));
        let parts = Arc::new((make, gone));
        stream::unfold((state, parts), move |((mut known, mut items), parts)| async move {
            loop {
                let Some(mut running) = items.take() else {
                    known.wait_for(served).await.ok()?;
                    items = Some((parts.0)());
                    continue;
                };
                let went = known.wait_for(|known| !served(known)).map(|_| ()).boxed();
                let next = match select(running.next(), went).await {
                    Either::Left((item, _)) => item,
                    Either::Right(_) => None,
                };
                match next {
                    Some(item) => return Some((item, ((known, Some(running)), parts))),
                    None => (parts.1)(),
                }
            }
        })
        .boxed()
    }

    fn learn(&self, found: Served) {
        self.0.send_if_modified(|known| {
            let news = known.as_ref() != Some(&found);
            if news {
                tracing::info!(?found, "optional kinds that the cluster serves");
                *known = Some(found);
            }
            news
        });
    }
}

/// Asks for ever, at least each [`EVERY`], and each `resync` if that is sooner.
pub async fn follow(client: Client, kinds: Arc<Kinds>, resync: Duration) {
    loop {
        let known = kinds.0.borrow().clone();
        match look(&client, known.as_ref()).await {
            Some(found) => {
                kinds.learn(found);
                tokio::time::sleep(jittered(resync.min(EVERY))).await;
            }
            None => tokio::time::sleep(UNKNOWN).await,
        }
    }
}

/// What is served; of a kind that cannot be asked for, what was known before. None: nothing was.
async fn look(client: &Client, known: Option<&Served>) -> Option<Served> {
    let mut found = Served::new();
    for kind in Optional::ALL {
        let resource = kind.resource();
        let asked = client.list_api_group_resources(&resource.api_version);
        let served = match api::read(|| format!("ask for {}", resource.api_version), asked).await {
            Ok(list) => list.resources.iter().any(|r| r.kind == resource.kind),
            Err(error) if error.is_not_found() => false,
            Err(error) => {
                tracing::warn!(%error, "it is not known whether a kind is served");
                known?.contains(&kind)
            }
        };
        if served {
            found.insert(kind);
        }
    }
    Some(found)
}
