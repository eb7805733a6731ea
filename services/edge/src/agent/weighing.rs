//! Gives EdgeWeights to [`Force`] as they come, and reads back through NGINX what is in force. Never waits for
//! structure. Does I/O.

use super::force::Force;
use super::probe::Probe;
use super::source::{Newest, changed};
use crate::state::State;
use std::sync::Arc;
use std::time::Duration;
use stomaton_crds::v1alpha1::EdgeWeightsSpec;

use tokio::sync::watch;
use tokio::time::sleep;

/// How often NGINX is asked while it does not answer, until it says what was put in force, and after.
const SILENT: Duration = Duration::from_millis(50);
const UNTIL_SEEN: Duration = Duration::from_millis(5);
const IDLE: Duration = Duration::from_secs(1);

/// The part of the agent that is responsible for weights.
pub(super) struct Weighing {
    pub(super) force: Arc<Force>,
    pub(super) probe: Probe,
    pub(super) state: Arc<State>,
}

impl Weighing {
    /// Applies what comes, for ever.
    pub(super) async fn run(self, mut newest: watch::Receiver<Newest<EdgeWeightsSpec>>) {
        loop {
            let settled = self.force.settle();
            let pause = self.read_back().await;
            tokio::select! {
                biased;
                () = changed(&mut newest) => {
                    let given = newest.borrow_and_update().clone();
                    self.force.admit(given);
                }
                () = sleep(if settled { pause } else { SILENT }) => if settled && pause == IDLE {
                    self.force.tidy();
                }
            }
        }
    }

    /// Reports what NGINX sees; gives the time until it should be asked again.
    async fn read_back(&self) -> Duration {
        let Ok(seen) = self.probe.weights().await else { return SILENT };
        self.state.change(|s| s.applied.weights = seen);
        if seen == self.force.revision() { IDLE } else { UNTIL_SEEN }
    }
}
