//! Waits for NGINX to write, counts, rotates. Does I/O.

use super::count::Kind;
use super::tail::Tail;
use crate::control::{ControlError, Supervisor, Verb};
use crate::files::FileError;
use crate::state::State;
use futures::future::{Fuse, FusedFuture, FutureExt};
use futures::stream::StreamExt;
use inotify::{Inotify, WatchMask};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tracing::warn;

/// Also the longest time for which lines may have to be read again after a crash.
const TICK: Duration = Duration::from_secs(1);

/// Counts into `state` for ever. Ends only with an error: the directory is gone.
pub async fn follow(
    mut tail: Tail,
    dir: &Path,
    supervisor: &Supervisor,
    state: &State,
) -> Result<(), FileError> {
    let unwatched = |cause| crate::files::fail("watch", dir)(cause);
    let inotify = Inotify::init().map_err(unwatched)?;
    let mask = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO;
    inotify.watches().add(dir, mask).map_err(unwatched)?;
    let mut events = inotify.into_event_stream(vec![0; 4096]).map_err(unwatched)?.ready_chunks(64);

    let mut tick = interval_at(Instant::now() + TICK, TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reopening = pin!(Fuse::terminated());
    let mut saved = 0;
    loop {
        count(state, |counters| tail.catch_up(counters))?;
        if tail.rotate()? && reopening.is_terminated() {
            reopening.set(reopen(supervisor).fuse());
        }
        tokio::select! {
            _ = events.next() => {}
            () = &mut reopening => count(state, |counters| tail.reopened(counters))?,
            _ = tick.tick() => {
                state.count(|counters| tail.note_if_full(counters));
                let now = state.read(|s| s.lines + s.gaps);
                if now != saved {
                    state.read(|counters| tail.save(counters))?;
                    saved = now;
                }
            }
        }
    }
}

fn count(
    state: &State,
    act: impl FnOnce(&mut stomaton_crds::edge_state::EdgeState) -> Result<Option<Kind>, FileError>,
) -> Result<(), FileError> {
    let worst = state.count(act)?;
    match worst {
        Some(Kind::Bad) => state.publish_at_once(),
        Some(Kind::Good) => state.publish_soon(),
        None => {}
    }
    Ok(())
}

/// Until it is done: what was renamed grows on meanwhile and is still counted.
async fn reopen(supervisor: &Supervisor) {
    while let Err(error) = supervisor.ask(Verb::Reopen).await {
        match error {
            ControlError::Unreachable { .. } => {}
            ControlError::Refused(reason) => warn!(reason, "NGINX did not reopen its logs"),
        }
        sleep(TICK).await;
    }
}
