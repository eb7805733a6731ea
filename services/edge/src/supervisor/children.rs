//! Child processes of PID 1: ours are waited for by name, orphans that fall to PID 1 are reaped. Does I/O.

use crate::lock;
use std::collections::HashMap;
use std::io;
use std::process::{Child, Command};
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::process::{WaitOptions, WaitStatus, wait};
use tokio::sync::oneshot;

/// Starts and reaps. One thread waits for any child, since two waiters would steal from each other.
#[derive(Default)]
pub(super) struct Children {
    waiting: Mutex<HashMap<i32, oneshot::Sender<i32>>>,
    spawned: Condvar,
}

impl Children {
    /// Starts `command`; the receiver gets its exit code, 128 and the signal's number when a signal ended it.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<(Child, oneshot::Receiver<i32>)> {
        // Held across the start, so that the reaper cannot meet a child that is not known yet.
        let mut waiting = lock(&self.waiting);
        let child = command.spawn()?;
        let (sender, receiver) = oneshot::channel();
        waiting.insert(child.id().cast_signed(), sender);
        self.spawned.notify_all();
        Ok((child, receiver))
    }

    /// Reaps for ever; wants a thread of its own.
    pub(super) fn reap(&self) {
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => {
                    if let Some(waiter) = lock(&self.waiting).remove(&pid.as_raw_nonzero().get()) {
                        // Nobody waits any more: then nobody needs to know.
                        let _ = waiter.send(exit_code(status));
                    }
                }
                // No child at all: sleep until there is one.
                Err(rustix::io::Errno::CHILD) => {
                    let none = |known: &mut HashMap<_, _>| known.is_empty();
                    drop(
                        self.spawned
                            .wait_while(lock(&self.waiting), none)
                            .unwrap_or_else(PoisonError::into_inner),
                    );
                }
                Ok(None) | Err(_) => {}
            }
        }
    }
}

fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}
