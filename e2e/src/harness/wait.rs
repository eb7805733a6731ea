//! Waiting for a condition. Takes a look at the world, gives what it was looking for, or an error that says what was
//! there instead. I/O: that of the look; says on standard error what a long wait is for.

use super::Error;
use futures::{Stream, StreamExt as _};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;
use std::{
    fmt::Debug,
    pin::pin,
    time::{Duration, Instant},
};

/// Between two looks at something that can't be watched.
const POLL: Duration = Duration::from_millis(200);
/// A wait says what it is for this often.
const SAY_EVERY: Duration = Duration::from_secs(15);

/// What a look at the world gave.
#[derive(Debug)]
pub enum Seen<T> {
    /// What was waited for.
    Yes(T),
    /// Something else, for a person.
    NotYet(String),
    /// Something from which it can't come about any more.
    Never(String),
}

impl<T> Seen<T> {
    /// The same with something else for what was waited for.
    pub fn map<U>(self, found: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Seen::Yes(value) => Seen::Yes(found(value)),
            Seen::NotYet(seen) => Seen::NotYet(seen),
            Seen::Never(seen) => Seen::Never(seen),
        }
    }
}

impl Seen<()> {
    /// `Yes` if it holds, else `NotYet` with these words.
    pub fn when(holds: bool, otherwise: impl FnOnce() -> String) -> Self {
        if holds { Seen::Yes(()) } else { Seen::NotYet(otherwise()) }
    }
}

/// Looks several times a second until the look gives what it is for. Errors of the look count as "not yet": a pod
/// that is just starting refuses connections.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Seen<T>, Error>,
) -> Result<T, Error> {
    let mut patience = Patience::new(what, limit);
    loop {
        let seen = tokio::time::timeout_at(patience.deadline(), look()).await;
        match seen.unwrap_or_else(|_| Ok(Seen::NotYet("no answer".into()))) {
            Ok(Seen::Yes(found)) => return Ok(found),
            Ok(Seen::Never(seen)) => return Err(patience.never(seen)),
            Ok(Seen::NotYet(seen)) => patience.bear(seen)?,
            Err(error) => patience.bear(error.to_string())?,
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Watches one object until the judgement of it, or of its absence, is `Yes`.
pub async fn object<K, T>(
    api: &Api<K>,
    name: &str,
    what: &str,
    limit: Duration,
    mut judge: impl FnMut(Option<&K>) -> Seen<T>,
) -> Result<T, Error>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut patience = Patience::new(what, limit);
    let mut states = pin!(watch(api, name));
    loop {
        let seen = match tokio::time::timeout_at(patience.next_word(), states.next()).await {
            Ok(Some(Ok(state))) => judge(state.as_ref()),
            Ok(Some(Err(error))) => Seen::NotYet(error.to_string()),
            Ok(None) => Seen::Never("the watch ended".into()),
            Err(_) => Seen::NotYet(patience.seen.clone()),
        };
        match seen {
            Seen::Yes(found) => return Ok(found),
            Seen::Never(seen) => return Err(patience.never(seen)),
            Seen::NotYet(seen) => patience.bear(seen)?,
        }
    }
}

/// Every state of one object from now on, `None` while it is not there; broken watches are begun anew.
pub fn watch<K>(
    api: &Api<K>,
    name: &str,
) -> impl Stream<Item = Result<Option<K>, watcher::Error>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher::watch_object(api.clone(), name).default_backoff()
}

struct Patience<'a> {
    what: &'a str,
    limit: Duration,
    began: Instant,
    said: Instant,
    seen: String,
}

impl<'a> Patience<'a> {
    fn new(what: &'a str, limit: Duration) -> Self {
        let now = Instant::now();
        Self { what, limit, began: now, said: now, seen: "nothing yet".into() }
    }

    fn deadline(&self) -> tokio::time::Instant {
        (self.began + self.limit).into()
    }

    fn next_word(&self) -> tokio::time::Instant {
        self.deadline().min((self.said + SAY_EVERY).into())
    }

    fn never(&self, seen: String) -> Error {
        Error::Never { what: self.what.to_owned(), seen }
    }

    fn bear(&mut self, seen: String) -> Result<(), Error> {
        self.seen = seen;
        let waited = self.began.elapsed();
        if waited >= self.limit {
            let (what, seen) = (self.what.to_owned(), self.seen.clone());
            return Err(Error::TooLate { what, seconds: self.limit.as_secs(), seen });
        }
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            eprintln!("        waiting {:.0} s for {}: {}", waited.as_secs_f32(), self.what, self.seen);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_with_what_it_found() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_secs(60), async || {
            looks += 1;
            Ok(if looks == 3 { Seen::Yes(looks) } else { Seen::NotYet("fewer".into()) })
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_wait_in_vain_says_what_was_there() {
        let error =
            until("the sun", Duration::from_millis(10), async || Ok(Seen::<()>::NotYet("rain".into())));
        let words = error.await.unwrap_err().to_string();
        assert_eq!(words, "the sun: not within 0 s; last seen: rain");
    }

    #[tokio::test]
    async fn a_hopeless_wait_ends_at_once() {
        let error =
            until("spring", Duration::from_secs(3600), async || Ok(Seen::<()>::Never("autumn".into())));
        assert!(matches!(error.await, Err(Error::Never { .. })));
    }
}
