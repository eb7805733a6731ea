//! The state as Prometheus metrics: few series, routes x sides x 2, and one for each latch. Pure.

use prometheus_client::encoding::{EncodeLabelSet, text::encode as to_text};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;
use stomaton_crds::edge_state::{Counts, EdgeState};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Revision {
    object: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answers {
    route: String,
    audience: String,
    side: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Latched {
    route: String,
    why: &'static str,
}

/// Metrics of `state` in OpenMetrics text.
pub(super) fn encode(state: &EdgeState) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("stomaton_edge");
    let applied = Family::<Revision, Gauge>::default();
    applied.get_or_create(&Revision { object: "EdgeConfig" }).set(state.applied.config);
    applied.get_or_create(&Revision { object: "EdgeWeights" }).set(state.applied.weights);
    registry.register("applied_revision", "Revision in force, read back through NGINX", applied);

    let latched = Family::<Latched, Gauge>::default();
    for (route, latch) in &state.latches {
        latched.get_or_create(&Latched { route: route.clone(), why: latch.why.as_str() }).set(1);
    }
    registry.register("latched", "Routes held on their safe side, whatever their weight", latched);

    let mut counter = |name: &str, help: &str, value: u64| {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    counter("log_lines", "Lines of the access logs counted", state.lines);
    counter("log_gaps", "Stretches of the access logs lost unread", state.gaps);
    counter("reloads", "Reloads of NGINX", state.reloads);

    let requests = Family::<Answers, Counter>::default();
    let bad = Family::<Answers, Counter>::default();
    let add = |labels: Answers, counts: Counts| {
        requests.get_or_create(&labels).inc_by(counts.requests);
        bad.get_or_create(&labels).inc_by(counts.bad);
    };
    for (route, audiences) in &state.counters {
        for (audience, sides) in audiences {
            let labels = |side| Answers { route: route.clone(), audience: audience.clone(), side };
            add(labels("monolith"), sides.monolith);
            add(labels("service"), sides.service);
        }
    }
    registry.register("requests", "Answers by route and side", requests);
    registry.register("bad_requests", "Answers that hurt, by route and side", bad);

    let mut text = String::new();
    to_text(&mut text, &registry)?;
    Ok(text)
}
