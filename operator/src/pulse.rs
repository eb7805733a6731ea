//! Whether the process can still do its work, for `/livez`. Takes signs of life, gives what is stuck. No I/O.
//!
//! Two signs, each of something that only a new process mends:
//! - each part is polled at least every [`BEAT`], work or no work: one that was not polled for [`SILENT`] sits on a
//!   thread and does not give it back, or waits for a lock that nobody will open;
//! - each pass ends within [`PASS_LIMIT`] by a timer: one that is older than [`STUCK`] did not let its timer come.
//!
//! If the runtime turns no more at all, nobody answers `/livez`, which is an answer too. What fails outside (the API
//! server, a watch) is not in here: a new process would not have it better.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Each part is polled at least this often.
const BEAT: Duration = Duration::from_secs(5);
/// A part that was not polled for this long is stuck.
const SILENT: Duration = Duration::from_secs(60);
/// Longest that a pass may take: far more than any needs, since each of its calls has a limit of its own.
pub const PASS_LIMIT: Duration = Duration::from_secs(60);
/// A pass that is older was not ended by its limit.
const STUCK: Duration = Duration::from_secs(120);

/// Signs of life of everything that runs.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Signs>);

#[derive(Debug, Default)]
struct Signs {
    /// When each part was polled last; none: not yet.
    parts: BTreeMap<&'static str, Option<Instant>>,
    /// Passes under way: what they are over, and when they began.
    passes: BTreeMap<u64, (String, Instant)>,
    next: u64,
}

impl Pulse {
    /// Does the work of a part, and notes whenever it was polled.
    pub fn of<F: Future>(
        self: &Arc<Self>,
        part: &'static str,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        self.lock().parts.insert(part, None);
        let pulse = self.clone();
        async move {
            let mut work = pin!(work);
            let mut beat = interval(BEAT);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            poll_fn(|cx| {
                // In the task of the work, so that the beat stops when the work does not give its thread back.
                while beat.poll_tick(cx).is_ready() {}
                let polled = work.as_mut().poll(cx);
                let mut signs = pulse.lock();
                match polled {
                    Poll::Pending => signs.parts.insert(part, Some(Instant::now())),
                    Poll::Ready(_) => signs.parts.remove(part),
                };
                polled
            })
            .await
        }
    }

    /// Notes a pass over `object`, until what is given is dropped.
    pub fn pass(&self, object: String) -> Pass<'_> {
        let mut signs = self.lock();
        let number = signs.next;
        signs.next += 1;
        signs.passes.insert(number, (object, Instant::now()));
        Pass { pulse: self, number }
    }

    /// Parts that were not polled yet.
    pub fn not_begun(&self) -> Vec<&'static str> {
        self.lock().parts.iter().filter(|(_, last)| last.is_none()).map(|(part, _)| *part).collect()
    }

    /// What is stuck at `now`, in words; none when all is well.
    pub fn stuck(&self, now: Instant) -> Vec<String> {
        let signs = self.lock();
        let silent = signs.parts.iter().filter_map(|(part, last)| {
            let silent = now.duration_since((*last)?);
            (silent >= SILENT).then(|| format!("{part} was not polled for {} s", silent.as_secs()))
        });
        let old = signs.passes.values().filter_map(|(object, begun)| {
            let age = now.duration_since(*begun);
            (age >= STUCK).then(|| format!("a pass over {object} has not ended for {} s", age.as_secs()))
        });
        silent.chain(old).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Signs> {
        // Entries are replaced whole, so a panic elsewhere leaves none half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pass under way.
pub struct Pass<'a> {
    pulse: &'a Pulse,
    number: u64,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.pulse.lock().passes.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_with_nothing_to_do_has_a_pulse_and_one_that_keeps_its_thread_has_none() {
        let pulse = Arc::<Pulse>::default();
        let idle = pulse.of("idle", std::future::pending::<()>());
        assert_eq!(pulse.not_begun(), ["idle"]);
        let idle = tokio::spawn(idle);
        // Between two beats: at one, either of the two could be first.
        tokio::time::sleep(SILENT * 3 + BEAT / 2).await;
        assert_eq!((pulse.not_begun(), pulse.stuck(Instant::now())), (vec![], vec![]));
        // Not polled any more, as behind a call that blocks.
        idle.abort();
        let _ = idle.await;
        tokio::time::sleep(SILENT).await;
        assert_eq!(pulse.stuck(Instant::now()), ["idle was not polled for 62 s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_ended_is_not_waited_for() {
        let pulse = Arc::<Pulse>::default();
        pulse.of("brief", async {}).await;
        tokio::time::sleep(SILENT * 2).await;
        assert_eq!(pulse.stuck(Instant::now()), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_is_stuck_when_its_limit_did_not_end_it() {
        let pulse = Pulse::default();
        let pass = pulse.pass("Gateway shop/edge".to_owned());
        tokio::time::sleep(PASS_LIMIT).await;
        assert!(pulse.stuck(Instant::now()).is_empty());
        tokio::time::sleep(STUCK - PASS_LIMIT).await;
        assert_eq!(pulse.stuck(Instant::now()), ["a pass over Gateway shop/edge has not ended for 120 s"]);
        drop(pass);
        assert!(pulse.stuck(Instant::now()).is_empty());
    }
}
