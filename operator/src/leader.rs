//! Which of several operators works: the one that holds a Lease; the others stand by. Takes a client and who we are;
//! gives the lead, and says when it is lost. I/O: one Lease; [`decide`] and [`next_spec`] are pure.
//!
//! The algorithm is that of client-go. Whether a lead has expired is judged by how long *we* saw its record
//! unchanged, never by the times in it: clocks of machines differ. A write carries the resourceVersion that was read,
//! so of two who try at once one is refused. Who cannot renew in time stops before another may begin.
//!
//! This keeps two operators from doing the same work. Nothing else rests on it: a process can be paused at any line
//! and believe for a moment what is no longer so, hence every write that matters is a compare-and-swap of its own.

use crate::{
    backoff::jittered,
    metrics::{Metrics, Verb},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// Name of the Lease.
pub const LEASE: &str = "stomaton-operator";

/// Who takes part in which election.
#[derive(Clone, Debug)]
pub struct Election {
    /// Where the Lease is.
    pub namespace: String,
    /// Who we are. The same for a container that was restarted in its pod: it goes on at once.
    pub identity: String,
    /// How long a lead lasts that is not renewed; whole seconds. The other times follow from it.
    pub lease: Duration,
}

impl Election {
    /// A leader that could not renew for this long stops; the rest of the lease is for it to end.
    fn renew_deadline(&self) -> Duration {
        self.lease.mul_f64(0.7)
    }

    /// Time between two looks at the Lease, and between two renewals.
    pub fn retry(&self) -> Duration {
        self.lease / 5
    }

    /// Longest that one call may take: there is time for a second one before the deadline.
    fn call(&self) -> Duration {
        self.renew_deadline() / 2
    }
}

/// Why the lead is lost.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Somebody else has it: they saw no renewal of ours for the length of the lease.
    #[error("{holder} leads now")]
    Taken {
        /// Who.
        holder: String,
    },
    /// The Lease could not be renewed, and soon another operator may take it.
    #[error("the Lease could not be renewed for {} s: {last}", after.as_secs_f32())]
    NotRenewed {
        /// For how long.
        after: Duration,
        /// Why the last try failed.
        last: String,
    },
}

/// Why a call did not give what was asked.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no answer from the API server within {} s", after.as_secs_f32())]
    Timeout { after: Duration },
    #[error("{0}")]
    Refused(#[from] kube::Error),
}

impl Error {
    /// Whether somebody else wrote the Lease first.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(kube::Error::Api(s)) if s.is_conflict() || s.is_already_exists())
    }
}

/// What to do about a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// It is ours.
    Renew,
    /// It is nobody's, or whoever has it is gone.
    Acquire,
    /// Somebody else has it.
    Wait,
}

/// Pure: what `me` is to do about a Lease whose record did not change for `unchanged_for`, as far as we saw.
fn decide(spec: &LeaseSpec, me: &str, unchanged_for: Duration) -> Decision {
    let lasts = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0));
    match spec.holder_identity.as_deref() {
        None | Some("") => Decision::Acquire,
        Some(holder) if holder == me => Decision::Renew,
        Some(_) if unchanged_for >= lasts => Decision::Acquire,
        Some(_) => Decision::Wait,
    }
}

/// Pure: the record by which `me` takes or keeps the lead.
fn next_spec(old: &LeaseSpec, me: &str, lease: Duration, now: Timestamp) -> LeaseSpec {
    let ours = old.holder_identity.as_deref() == Some(me);
    let transitions = old.lease_transitions.unwrap_or(0);
    // The first lead of all is no transition.
    let first = old.renew_time.is_none();
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(i32::try_from(lease.as_secs().max(1)).unwrap_or(i32::MAX)),
        acquire_time: if ours { old.acquire_time.clone() } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if ours || first { transitions } else { transitions.saturating_add(1) }),
        ..old.clone()
    }
}

/// Pure: the record by which a leader that has ended leaves the lead to whoever comes first.
fn released(old: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec { holder_identity: None, renew_time: Some(MicroTime(now)), ..old.clone() }
}

/// Where this process stands, for `/readyz`.
#[derive(Debug, Default)]
pub struct Standing(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// It works: it leads, or there is no election.
    #[default]
    Working,
    /// It stands by, and could last read the Lease then.
    Waiting { read: Option<Instant> },
}

impl Standing {
    /// Whether this process stands by.
    pub fn waits(&self) -> bool {
        matches!(*self.lock(), State::Waiting { .. })
    }

    /// Whether this process could take over at `now`: it saw the Lease within `limit`. False for who works already.
    pub fn sees_the_lease(&self, now: Instant, limit: Duration) -> bool {
        matches!(*self.lock(), State::Waiting { read: Some(at) } if now.duration_since(at) < limit)
    }

    fn set(&self, state: State) {
        *self.lock() = state;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Written whole, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to the Lease.
struct Record {
    api: Api<Lease>,
    election: Election,
    metrics: Arc<Metrics>,
}

impl Record {
    /// Makes a call, within its time and that of `limit`.
    async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        let after = limit.min(self.election.call());
        Ok(timeout(after, call).await.map_err(|_| Error::Timeout { after })??)
    }

    async fn read(&self, limit: Duration) -> Result<Option<Lease>, Error> {
        self.within(limit, self.api.get_opt(LEASE)).await
    }

    /// Writes the record onto the Lease that was read, or makes one where there was none. Refused if the Lease is no
    /// longer the one that was read.
    async fn write(&self, found: Option<&Lease>, spec: LeaseSpec, limit: Duration) -> Result<Lease, Error> {
        let params = PostParams::default();
        match found {
            Some(found) => {
                // With the resourceVersion that was read: this is the whole of mutual exclusion.
                let mut lease = Lease { spec: Some(spec), metadata: found.metadata.clone() };
                lease.metadata.managed_fields = None;
                self.metrics.wrote(Verb::Replace, "Lease");
                self.within(limit, self.api.replace(LEASE, &params, &lease)).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
                let lease = Lease { spec: Some(spec), metadata };
                self.metrics.wrote(Verb::Create, "Lease");
                self.within(limit, self.api.create(&params, &lease)).await
            }
        }
    }
}

/// Who stands by.
pub struct Candidate {
    record: Record,
    standing: Arc<Standing>,
    /// The record as it was last seen, and when it was first seen so.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    /// Takes part in an election; `client` is best one that nobody else uses, so that no request is in front of a
    /// renewal.
    pub fn new(client: Client, election: Election, metrics: Arc<Metrics>, standing: Arc<Standing>) -> Self {
        standing.set(State::Waiting { read: None });
        let api = Api::namespaced(client, &election.namespace);
        Self { record: Record { api, election, metrics }, standing, seen: None }
    }

    /// Stands by until this process leads.
    pub async fn acquire(mut self) -> Leader {
        let Election { namespace, identity, .. } = self.record.election.clone();
        tracing::info!(namespace, identity, "standing by");
        loop {
            match self.attempt().await {
                Ok(Some((lease, renewed))) => {
                    tracing::info!(namespace, identity, "leading");
                    self.standing.set(State::Working);
                    self.record.metrics.leads(true);
                    return Leader { record: self.record, lease, renewed };
                }
                Ok(None) => {}
                Err(error) if error.is_conflict() => tracing::debug!("somebody else was faster"),
                Err(error) => tracing::warn!(%error, namespace, "cannot read or take the Lease"),
            }
            sleep(jittered(self.record.election.retry())).await;
        }
    }

    /// Looks at the Lease once and takes it if that is right. Gives the Lease and the moment before it was taken.
    async fn attempt(&mut self) -> Result<Option<(Lease, Instant)>, Error> {
        let found = self.record.read(Duration::MAX).await?;
        let now = Instant::now();
        self.standing.set(State::Waiting { read: Some(now) });
        let spec = found.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let election = &self.record.election;
        if decide(&spec, &election.identity, unchanged_for(&mut self.seen, &spec, now)) == Decision::Wait {
            return Ok(None);
        }
        let next = next_spec(&spec, &election.identity, election.lease, Timestamp::now());
        let lease = self.record.write(found.as_ref(), next, Duration::MAX).await?;
        Ok(Some((lease, now)))
    }
}

/// How long the record has been seen as it is at `now`.
fn unchanged_for(seen: &mut Option<(LeaseSpec, Instant)>, spec: &LeaseSpec, now: Instant) -> Duration {
    match seen {
        Some((last, since)) if last == spec => now.duration_since(*since),
        _ => {
            *seen = Some((spec.clone(), now));
            Duration::ZERO
        }
    }
}

/// Who leads.
pub struct Leader {
    record: Record,
    /// As it was last written.
    lease: Lease,
    /// The moment before the last renewal was sent: from then on others count, at the earliest.
    renewed: Instant,
}

impl Leader {
    /// Keeps the lead for as long as it is polled; resolves when it is lost. Then everything has to end at once.
    pub async fn keep(&mut self) -> Lost {
        let deadline = self.record.election.renew_deadline();
        let mut last = None;
        loop {
            // After a failure sooner: what is left of the time is short.
            let pause = self.record.election.retry() / if last.is_some() { 4 } else { 1 };
            sleep(pause.min(deadline.saturating_sub(self.renewed.elapsed()))).await;
            match self.renew(deadline).await {
                Ok(Some(holder)) => return Lost::Taken { holder },
                Ok(None) => last = None,
                Err(error) => {
                    tracing::warn!(%error, "cannot renew the Lease");
                    last = Some(error.to_string());
                }
            }
            if self.renewed.elapsed() >= deadline {
                let last = last.unwrap_or_else(|| "the process was paused".to_owned());
                return Lost::NotRenewed { after: deadline, last };
            }
        }
    }

    /// Renews once. Gives who leads, if that is somebody else.
    async fn renew(&mut self, deadline: Duration) -> Result<Option<String>, Error> {
        let begun = Instant::now();
        let left = |renewed: Instant| deadline.saturating_sub(renewed.elapsed());
        match self.write(next_spec, left(self.renewed)).await {
            Ok(lease) => {
                (self.lease, self.renewed) = (lease, begun);
                Ok(None)
            }
            // Changed by somebody, or gone. If it is still ours, the next renewal is of what is there now.
            Err(error) if error.is_conflict() || is_not_found(&error) => {
                let found = self.record.read(left(self.renewed)).await?.unwrap_or_default();
                let spec = found.spec.clone().unwrap_or_default();
                match spec.holder_identity.clone() {
                    Some(holder) if holder != self.record.election.identity => Ok(Some(holder)),
                    _ => {
                        self.lease = found;
                        Err(error)
                    }
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn write(
        &self,
        next: fn(&LeaseSpec, &str, Duration, Timestamp) -> LeaseSpec,
        limit: Duration,
    ) -> Result<Lease, Error> {
        let Election { identity, lease, .. } = &self.record.election;
        let old = self.lease.spec.clone().unwrap_or_default();
        let there = self.lease.metadata.resource_version.is_some().then_some(&self.lease);
        self.record.write(there, next(&old, identity, *lease, Timestamp::now()), limit).await
    }

    /// Leaves the lead to whoever comes first. Only for a leader that does nothing any more.
    pub async fn release(self) {
        self.record.metrics.leads(false);
        let limit = self.record.election.call();
        match self.write(|old, _, _, now| released(old, now), limit).await {
            Ok(_) => tracing::info!("the lead is released"),
            // It expires instead.
            Err(error) => tracing::warn!(%error, "cannot release the lead"),
        }
    }
}

fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Refused(kube::Error::Api(status)) if status.is_not_found())
}

#[cfg(test)]
mod tests;
