//! How requests of a route are handled, in the numbers that the edge counts with. Pure.

use std::time::Duration;
use stomaton_crds::v1alpha1::{EdgeHandling, Route};

/// How requests of `route`, which was checked, are handled.
pub fn handling(route: &Route) -> EdgeHandling {
    let streams = route.web_socket || route.server_sent_events;
    let silent = if streams { route.timeouts.idle } else { route.timeouts.response };
    let default = EdgeHandling::default();
    EdgeHandling {
        connect_millis: millis(route.timeouts.connect),
        silent_millis: millis(silent),
        max_body_bytes: route.max_body.as_deref().and_then(bytes).unwrap_or(default.max_body_bytes),
        web_socket: route.web_socket,
        unbuffered: route.server_sent_events,
        gzip: route.gzip,
    }
}

fn millis(duration: kube::core::Duration) -> i32 {
    i32::try_from(Duration::from(duration).as_millis()).unwrap_or(i32::MAX)
}

/// `64Ki`, `10Mi`, `2Gi`.
pub fn bytes(size: &str) -> Option<i64> {
    let (number, unit, most) = None
        .or_else(|| Some((size.strip_suffix("Ki")?, 1_i64 << 10, 9999_i64)))
        .or_else(|| Some((size.strip_suffix("Mi")?, 1 << 20, 9999)))
        .or_else(|| Some((size.strip_suffix("Gi")?, 1 << 30, 9)))?;
    let number: i64 = number.parse().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit()))?;
    (1..=most).contains(&number).then_some(number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(more: serde_json::Value) -> EdgeHandling {
        let mut route = json!({"name": "r", "match": {"pathPrefix": "/a"}});
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        handling(&serde_json::from_value(route).unwrap())
    }

    #[test]
    fn a_route_that_says_nothing_is_handled_like_no_route() {
        assert_eq!(of(json!({})), EdgeHandling::default());
    }

    #[test]
    fn streams_may_be_silent_for_longer() {
        let timeouts = json!({"connect": "250ms", "response": "5s", "idle": "10m"});
        let plain = of(json!({"timeouts": timeouts}));
        assert_eq!((plain.connect_millis, plain.silent_millis), (250, 5_000));
        for stream in ["webSocket", "serverSentEvents"] {
            assert_eq!(of(json!({"timeouts": timeouts, stream: true})).silent_millis, 600_000);
        }
    }

    #[test]
    fn sizes_are_powers_of_two() {
        assert_eq!(of(json!({"maxBody": "64Ki"})).max_body_bytes, 65_536);
        for (size, expected) in [("10Mi", Some(10 << 20)), ("9Gi", Some(9 << 30)), ("10Gi", None)] {
            assert_eq!(bytes(size), expected);
        }
        for bad in ["", "Mi", "0Ki", "-1Ki", "+1Ki", "1", "1K", "1.5Mi", "99999Ki"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
