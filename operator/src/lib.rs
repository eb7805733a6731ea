//! The Stomaton operator: three controllers, one picture of all edges, one rollback path.
//!
//! What runs:
//! - [`run`]: the process, from start to graceful stop; [`args`] what it is told, [`context`] what all parts share
//! - [`controllers`]: one per kind, each in five steps, and the loop they share
//! - [`edges`]: what every edge pod serves and counted, as it happens
//! - [`judges`]: whether that shows that a service is worse than the monolith, or good enough
//! - [`prometheus`]: what it counts, for judges that ask it
//! - [`leader`]: which of several operators works
//! - [`rollback`]: takes a route back when a guard is breached, past every queue
//!
//! What the controllers stand on:
//! - [`watch`]: streams of objects whose errors stay their own
//! - [`api`]: every call in a timeout, every write counted
//! - [`apply`]: server-side apply that writes nothing when nothing would change, and never to foreign objects
//! - [`optional`]: kinds of other projects that may come and go; [`foreign`] what of them is written
//! - [`weights`]: EdgeWeights by compare-and-swap
//! - [`status`]: one status write a pass, if it says something new
//! - [`backoff`]: how long to leave an object alone that cannot be reconciled
//!
//! How it is seen: [`telemetry`] (logs), [`metrics`], [`pulse`] (what is stuck), [`http`] (`/livez`, `/readyz`,
//! `/metrics`).

pub mod api;
pub mod apply;
pub mod args;
pub mod backoff;
pub mod context;
pub mod controllers;
pub mod edges;
pub mod finalizer;
pub mod foreign;
pub mod http;
pub mod judges;
pub mod leader;
pub mod metrics;
pub mod optional;
pub mod prometheus;
pub mod pulse;
pub mod rollback;
pub mod run;
pub mod status;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod watch;
pub mod weights;
