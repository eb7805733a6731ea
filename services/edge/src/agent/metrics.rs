//! The state as Prometheus metrics: few series, whose number depends on nothing that a client says. Pure.
//!
//! For each route and side: answers by class (5), a histogram of times (13), and by audience all answers and the bad
//! ones; and one for each latch. What is zero is left out.

use prometheus_client::encoding::{
    EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet, text::encode as to_text,
};
use prometheus_client::metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;
use std::fmt;
use stomaton_crds::edge_state::{Counts, EdgeState, LATENCY_BOUNDS_MS, Mix};

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Class {
    route: String,
    side: &'static str,
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Side {
    route: String,
    side: &'static str,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Metrics of `state` in OpenMetrics text.
pub(super) fn encode(state: &EdgeState) -> Result<String, fmt::Error> {
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
    answers(state, &mut registry);

    let mut text = String::new();
    to_text(&mut text, &registry)?;
    Ok(text)
}

fn answers(state: &EdgeState, registry: &mut Registry) {
    let requests = Family::<Answers, Counter>::default();
    let bad = Family::<Answers, Counter>::default();
    let classes = Family::<Class, Counter>::default();
    let mut times = Times(Vec::new());
    for (route, audiences) in &state.counters {
        let mut sums = [("monolith", Counts::default()), ("service", Counts::default())];
        for (audience, sides) in audiences {
            for ((side, sum), counts) in sums.iter_mut().zip([sides.monolith, sides.service]) {
                *sum = *sum + counts;
                if counts.requests > 0 {
                    let labels = Answers { route: route.clone(), audience: audience.clone(), side };
                    requests.get_or_create(&labels).inc_by(counts.requests);
                    bad.get_or_create(&labels).inc_by(counts.bad);
                }
            }
        }
        for (side, sum) in sums.into_iter().filter(|(_, sum)| sum.requests > 0) {
            for (class, count) in CLASSES.into_iter().zip(sum.mix.classes).filter(|(_, count)| *count > 0) {
                classes.get_or_create(&Class { route: route.clone(), side, class }).inc_by(count);
            }
            times.0.push((Side { route: route.clone(), side }, sum.mix));
        }
    }
    registry.register("requests", "Answers by route and side", requests);
    registry.register("bad_requests", "Answers that hurt, by route and side", bad);
    registry.register("answers", "Answers by route, side and class of their status", classes);
    registry.register("latency_seconds", "Time until the head of an answer was there", times);
}

/// Histograms that were counted elsewhere.
#[derive(Debug)]
struct Times(Vec<(Side, Mix)>);

impl EncodeMetric for Times {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, mix) in &self.0 {
            let bounds = LATENCY_BOUNDS_MS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(mix.latency).collect();
            let (sum, count) = (seconds(mix.latency_millis), mix.latency.iter().sum());
            encoder.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn seconds(millis: u64) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stomaton_crds::edge_state::Sides;

    #[test]
    fn a_route_has_few_series_and_none_for_what_never_was() {
        let mut service = Counts::default();
        for (status, millis) in [(200, 3), (200, 80), (503, 9000)] {
            service.requests += 1;
            service.mix.count(status, millis);
        }
        service.bad = 1;
        let sides = Sides { service, ..Sides::default() };
        let audiences = [("public".to_owned(), sides), ("team".to_owned(), sides)].into();
        let state = EdgeState { counters: [("r1".to_owned(), audiences)].into(), ..EdgeState::default() };
        let text = encode(&state).unwrap();
        for line in [
            r#"stomaton_edge_requests_total{route="r1",audience="team",side="service"} 3"#,
            r#"stomaton_edge_bad_requests_total{route="r1",audience="public",side="service"} 1"#,
            r#"stomaton_edge_answers_total{route="r1",side="service",class="2xx"} 4"#,
            r#"stomaton_edge_answers_total{route="r1",side="service",class="5xx"} 2"#,
            r#"stomaton_edge_latency_seconds_bucket{le="0.005",route="r1",side="service"} 2"#,
            r#"stomaton_edge_latency_seconds_bucket{le="0.1",route="r1",side="service"} 4"#,
            r#"stomaton_edge_latency_seconds_bucket{le="+Inf",route="r1",side="service"} 6"#,
            r#"stomaton_edge_latency_seconds_count{route="r1",side="service"} 6"#,
            r#"stomaton_edge_latency_seconds_sum{route="r1",side="service"} 18.166"#,
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        assert!(!text.contains("monolith") && !text.contains("4xx"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("r1")).count(), 4 + 2 + 13);
    }
}
