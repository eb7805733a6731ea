//! How requests are handled, in the numbers that the edge counts with. Pure.

use std::time::Duration;
use stomaton_crds::{
    ids,
    v1alpha1::{
        Certificate, Class, EdgeAuth, EdgeCertificate, EdgeFallback, EdgeHandling, EdgeLimits, EdgeRate,
        EdgeTls, Fallback, Jwt, LimitMode, Maintenance, Method, Rate, RateLimits, Route, Tls,
    },
};

/// Limits for one client, which meets one pod and so has them in full there.
pub fn limits(limits: &RateLimits) -> Option<EdgeLimits> {
    let dry_run = match limits.mode {
        LimitMode::Enforce => false,
        LimitMode::DryRun => true,
        LimitMode::Disabled => return None,
    };
    let (client, client_auth) = (share(limits.per_client, 1), share(limits.per_client_auth, 1));
    Some(EdgeLimits { client, client_auth, dry_run })
}

/// What each of `pods` allows so that they allow `rate` together: never nothing.
fn share(rate: Rate, pods: i32) -> EdgeRate {
    let pods = pods.max(1);
    // Rounded, not cut off: a rate of 1 is 60 a minute, of which 32 pods have 2 each, not 1.
    let per_minute = (i64::from(rate.requests_per_second) * 60 + i64::from(pods) / 2) / i64::from(pods);
    let per_minute = i32::try_from(per_minute).unwrap_or(i32::MAX).max(1);
    EdgeRate { per_minute, burst: rate.burst() / pods }
}

/// How requests of `route`, which was checked, are handled by each of `pods`.
pub fn handling(route: &Route, pods: i32) -> EdgeHandling {
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
        auth: route.auth.map(|auth| auth.on_outage),
        limit: route.rate_limit.class,
        total: route.rate_limit.total.map(|rate| share(rate, pods)),
        allow_from: route.allow_from.clone(),
        cors: route.cors.clone(),
        fallback: None,
    }
}

/// When the safe side answers where the target could not. What may not be sent twice never is.
pub fn fallback(given: &Fallback, class: Class) -> EdgeFallback {
    let twice = |method: &Method| class == Class::Read && matches!(method, Method::PUT | Method::DELETE);
    EdgeFallback {
        also_for: given.also_for.iter().copied().filter(twice).collect(),
        within_millis: millis(given.within).clamp(1, 60_000),
    }
}

/// Certificates by where they are mounted.
pub fn tls(given: &Tls) -> EdgeTls {
    let certificate =
        |c: &Certificate| EdgeCertificate { id: ids::secret_dir(&c.secret), hosts: c.hosts.clone() };
    EdgeTls {
        min_version: given.min_version,
        redirect_to: given.redirect.then_some(given.port),
        certificates: given.certificates.iter().map(certificate).collect(),
    }
}

/// Who knows the users, at the backend with this key, if it was ever there.
pub fn auth(jwt: &Jwt, backend: Option<String>) -> EdgeAuth {
    EdgeAuth {
        backend,
        path: jwt.path.clone(),
        identity_headers: jwt.identity_headers.clone(),
        timeout_millis: millis(jwt.timeout),
    }
}

/// Whole seconds to come again after, at least one.
pub fn maintenance(given: &Maintenance) -> i32 {
    let seconds = Duration::from(given.retry_after).as_secs();
    i32::try_from(seconds).unwrap_or(86_400).clamp(1, 86_400)
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
        handling(&serde_json::from_value(route).unwrap(), 3)
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
    fn a_total_is_shared_among_the_pods_and_never_nothing() {
        let total = |rate: serde_json::Value| of(json!({"rateLimit": {"total": rate}})).total.unwrap();
        let rate = |per_minute, burst| EdgeRate { per_minute, burst };
        assert_eq!(total(json!({"requestsPerSecond": 100})), rate(2000, 66));
        assert_eq!(total(json!({"requestsPerSecond": 1, "burst": 2})), rate(20, 0));
        assert_eq!(share(Rate { requests_per_second: 1, burst: None }, 32), rate(2, 0));
        assert_eq!(share(Rate { requests_per_second: 1, burst: None }, 1000), rate(1, 0));
        assert_eq!(share(Rate { requests_per_second: i32::MAX, burst: None }, 0).per_minute, i32::MAX);
    }

    #[test]
    fn a_client_may_100_in_a_second_and_10_on_auth_routes_unless_told_otherwise() {
        let usual = limits(&RateLimits::default()).unwrap();
        assert_eq!(usual.client, EdgeRate { per_minute: 6000, burst: 200 });
        assert_eq!(usual.client_auth, EdgeRate { per_minute: 600, burst: 20 });
        assert!(!usual.dry_run);
        let of = |mode| limits(&RateLimits { mode, ..RateLimits::default() });
        assert!(of(LimitMode::DryRun).unwrap().dry_run);
        assert_eq!(of(LimitMode::Disabled), None);
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
