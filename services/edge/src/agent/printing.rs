//! Whether the access log is printed, as the newest structure says. No I/O.

use super::source::{Newest, changed};
use crate::logs::Switch;
use stomaton_crds::v1alpha1::EdgeConfigSpec;

use tokio::sync::watch;

/// Turns printing on and off, for ever.
pub(super) async fn follow(mut newest: watch::Receiver<Newest<EdgeConfigSpec>>, switch: Switch) {
    loop {
        if let Newest::Object(spec) = &*newest.borrow_and_update() {
            let names = || spec.routes.iter().map(|route| (route.id.clone(), route.name.clone())).collect();
            switch.set(spec.access_log_to_stdout.then(names));
        }
        changed(&mut newest).await;
    }
}
