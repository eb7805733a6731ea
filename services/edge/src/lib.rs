//! The data plane of Stomaton: NGINX under a small supervisor, and beside it, in a container of its own, an agent
//! that programs it.
//!
//! - [`supervisor`]: PID 1 of the NGINX container; starts, reloads and drains it
//! - [`agent`]: reads EdgeConfig and EdgeWeights, applies them, acknowledges what NGINX really serves
//! - [`control`]: what the two say to each other
//! - [`nginx`]: from an EdgeConfig to the text of a configuration (pure)
//! - [`files`]: files that change in one step
//! - [`names`]: the only strings of others that may reach that text (pure)
//! - [`weights`]: shares of routes as directories of links, switched by one `rename`
//! - [`logs`]: from NGINX's access logs to counters
//! - [`state`]: what the pod reports about itself

pub mod agent;
pub mod control;
pub mod files;
pub mod logs;
pub mod names;
pub mod nginx;
pub mod state;
pub mod supervisor;
pub mod weights;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: every value behind a lock of this crate is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
