//! Configurations that have every feature of the renderer between them. Takes nothing, gives objects by name; no I/O.

use crate::support::{fixed, id, moving};
use std::collections::BTreeMap;
use stomaton_crds::v1alpha1::{
    AddressFrom, Cors, EdgeAuth, EdgeCertificate, EdgeConfigSpec, EdgeLimits, EdgeRate, EdgeRoute, EdgeTls,
    FrameOptions, HeaderMatch, LimitClass, Method, OnOutage, ReferrerPolicy, SecurityHeaders, TlsVersion,
    TrustedProxies,
};

/// A name, and an object.
pub type Fixture = (&'static str, EdgeConfigSpec);

/// All of them.
pub fn all() -> Vec<Fixture> {
    vec![
        ("bare", spec(vec![])),
        ("choices", spec(choices())),
        ("handling", EdgeConfigSpec { hidden_paths: vec!["/internal".into()], ..spec(handling()) }),
        ("answers", EdgeConfigSpec { security_headers: Some(security_headers()), ..spec(answers()) }),
        ("limits", EdgeConfigSpec { limits: Some(limits(false)), ..spec(limited()) }),
        ("limits-dry-run", EdgeConfigSpec { limits: Some(limits(true)), ..spec(limited()) }),
        ("auth", EdgeConfigSpec { auth: Some(auth(Some("s"))), ..spec(for_known_users()) }),
        ("auth-hidden", EdgeConfigSpec { auth: Some(auth(Some("s"))), ..spec(hidden_by_another()) }),
        ("auth-gone", EdgeConfigSpec { auth: Some(auth(None)), ..spec(for_known_users()) }),
        ("forwarded-for", trusting(AddressFrom::XForwardedFor)),
        ("real-ip", trusting(AddressFrom::XRealIp)),
        ("proxy-protocol", EdgeConfigSpec { tls: Some(tls(None)), ..trusting(AddressFrom::ProxyProtocol) }),
        ("maintenance", EdgeConfigSpec { maintenance_seconds: Some(300), ..everything() }),
        ("extremes", extremes()),
        ("everything", everything()),
    ]
}

/// As many routes as there may be, each with everything of its own that NGINX keeps a table or a zone for.
pub fn most_routes() -> EdgeConfigSpec {
    let route = |number: u64| {
        let mut route = EdgeRoute {
            hosts: vec![format!("h{number}.example")],
            headers: vec![HeaderMatch { name: format!("x-{number}"), value: number.to_string() }],
            target_rewrite: Some(format!("/v2/{number}")),
            ..moving(number, &format!("/api/v1/{number}"))
        };
        route.handling.total = Some(EdgeRate { per_minute: 60, burst: 10 });
        route.handling.auth = Some(OnOutage::FailClosed);
        route.handling.web_socket = true;
        let allow_origins = vec![format!("https://o{number}.example")];
        route.handling.cors = Some(Cors { allow_origins, ..Cors::default() });
        route
    };
    EdgeConfigSpec { routes: (1..=1000).map(route).collect(), ..everything() }
}

fn spec(routes: Vec<EdgeRoute>) -> EdgeConfigSpec {
    EdgeConfigSpec {
        revision: 7,
        backends: BTreeMap::from([
            ("m".to_owned(), "10.96.0.10:80".to_owned()),
            ("s".to_owned(), "[fd00::11]:8080".to_owned()),
        ]),
        default_backend: "m".into(),
        routes,
        ..EdgeConfigSpec::default()
    }
}

fn everything() -> EdgeConfigSpec {
    let groups = [choices(), handling(), answers(), limited(), for_known_users()];
    EdgeConfigSpec {
        hosts: vec!["a.example".into(), "b.example".into()],
        tls: Some(tls(Some(8443))),
        auth: Some(auth(Some("s"))),
        limits: Some(limits(false)),
        security_headers: Some(security_headers()),
        hidden_paths: vec!["/internal".into(), "/metrics".into()],
        diagnostics: true,
        routes: groups.concat(),
        ..trusting(AddressFrom::XForwardedFor)
    }
}

/// Everything as small, as large and as long as the schema allows.
fn extremes() -> EdgeConfigSpec {
    let host = |number: usize| format!("{number:063}.{0}.{0}.{1}", "h".repeat(63), "h".repeat(61));
    let long = |begin: &str, length| format!("{begin}{}", "x".repeat(length - begin.len()));
    let none = EdgeRate { per_minute: 1, burst: 0 };
    let most = EdgeRate { per_minute: 6_000_000, burst: 200_000 };
    let mut least = moving(61, &long("/least/", 256));
    least.headers = vec![HeaderMatch { name: long("x-", 63), value: "V".repeat(128) }];
    least.hosts = (0..16).map(host).collect();
    least.handling.connect_millis = 1;
    least.handling.silent_millis = 1;
    least.handling.max_body_bytes = 1;
    least.handling.limit = LimitClass::Auth;
    least.handling.total = Some(none);
    let mut greatest =
        EdgeRoute { target_rewrite: Some(long("/to/", 256)), ..moving(62, &long("/most/", 256)) };
    greatest.handling.connect_millis = 60_000;
    greatest.handling.silent_millis = 86_400_000;
    greatest.handling.max_body_bytes = 10 << 30;
    greatest.handling.total = Some(most);
    greatest.handling.allow_from = (0..64).map(|n| format!("10.{n}.0.0/16")).collect();
    greatest.handling.cors = Some(Cors {
        allow_origins: (0..32).map(|n| format!("https://{}:65535", host(n))).collect(),
        allow_headers: (0..32).map(|n| long(&format!("x-{n}-"), 63)).collect(),
        max_age_seconds: 86_400,
        ..Cors::default()
    });
    EdgeConfigSpec {
        hosts: (0..64).map(host).collect(),
        tls: Some(EdgeTls {
            certificates: (0..64)
                .map(|n| EdgeCertificate { id: id(n), hosts: vec![host(n as usize)] })
                .collect(),
            ..tls(Some(65_535))
        }),
        auth: Some(EdgeAuth {
            path: long("/auth/", 256),
            identity_headers: (0..16).map(|n| long(&format!("x-{n}-"), 63)).collect(),
            ..auth(Some("s"))
        }),
        limits: Some(EdgeLimits { client: none, client_auth: most, dry_run: false }),
        security_headers: Some(SecurityHeaders {
            hsts_seconds: 63_072_000,
            content_security_policy: Some(long("default-src ", 1024)),
            ..security_headers()
        }),
        hidden_paths: (0..32).map(|n| long(&format!("/hidden-{n}-"), 256)).collect(),
        routes: [vec![least, greatest], for_known_users()].concat(),
        ..trusting(AddressFrom::XForwardedFor)
    }
}

/// Routes that share paths, and differ in what they match and where they go.
fn choices() -> Vec<EdgeRoute> {
    let version = HeaderMatch { name: "x-version".into(), value: "V/2".into() };
    vec![
        moving(1, "/a"),
        EdgeRoute { exact: true, ..fixed(2, "/a") },
        EdgeRoute { headers: vec![version], ..fixed(3, "/a") },
        EdgeRoute { methods: vec![Method::POST], hosts: vec!["a.example".into()], ..fixed(4, "/a") },
        EdgeRoute { safe_rewrite: Some("/".into()), ..moving(5, "/b") },
        EdgeRoute { target_rewrite: Some("/v2".into()), ..moving(6, "/c/d") },
        EdgeRoute { exact: true, safe_rewrite: Some("/old".into()), ..moving(7, "/e") },
    ]
}

/// Routes whose requests are passed on in ways of their own, some beside others on one path.
fn handling() -> Vec<EdgeRoute> {
    let mut socket = fixed(11, "/socket");
    socket.handling.web_socket = true;
    socket.handling.silent_millis = 3_600_000;
    let mut events = moving(12, "/events");
    events.handling.unbuffered = true;
    let mut large = EdgeRoute { methods: vec![Method::PUT], ..fixed(13, "/files") };
    large.handling.max_body_bytes = 1 << 30;
    let mut text = moving(14, "/files");
    text.handling.gzip = true;
    text.handling.connect_millis = 200;
    vec![socket, events, large, text]
}

fn answers() -> Vec<EdgeRoute> {
    let shared = |number, path, cors| {
        let mut route = moving(number, path);
        route.handling.cors = Some(cors);
        route
    };
    let app = Cors {
        allow_origins: vec!["https://app.example".into(), "http://localhost:3000".into()],
        allow_methods: vec![Method::GET, Method::PUT],
        allow_headers: vec!["content-type".into(), "x-request".into()],
        expose_headers: vec!["etag".into()],
        allow_credentials: true,
        max_age_seconds: 600,
    };
    let all = Cors { allow_origins: vec!["*".into()], ..Cors::default() };
    vec![shared(21, "/app", app.clone()), shared(22, "/app/too", app), shared(23, "/open", all)]
}

fn security_headers() -> SecurityHeaders {
    SecurityHeaders {
        no_sniff: true,
        frame_options: FrameOptions::Deny,
        referrer_policy: ReferrerPolicy::NoReferrer,
        hsts_seconds: 31_536_000,
        content_security_policy: Some("default-src 'self'; img-src *".into()),
    }
}

fn limits(dry_run: bool) -> EdgeLimits {
    let rate = |per_minute, burst| EdgeRate { per_minute, burst };
    EdgeLimits { client: rate(6000, 200), client_auth: rate(600, 20), dry_run }
}

fn limited() -> Vec<EdgeRoute> {
    let mut login = fixed(31, "/login");
    login.handling.limit = LimitClass::Auth;
    login.handling.total = Some(EdgeRate { per_minute: 90, burst: 10 });
    let mut free = fixed(32, "/free");
    free.handling.limit = LimitClass::Unlimited;
    let mut inner = moving(33, "/inner");
    inner.handling.allow_from = vec!["10.0.0.0/8".into(), "fd00::/8".into()];
    vec![login, free, inner]
}

fn auth(backend: Option<&str>) -> EdgeAuth {
    EdgeAuth {
        backend: backend.map(str::to_owned),
        path: "/internal/auth/verify".into(),
        identity_headers: vec!["x-user-id".into(), "x-user-roles".into()],
        timeout_millis: 1000,
    }
}

fn for_known_users() -> Vec<EdgeRoute> {
    let known = |number, path, on_outage| {
        let mut route = moving(number, path);
        route.handling.auth = Some(on_outage);
        route
    };
    let mut shared = known(43, "/mine/shared", OnOutage::FailClosed);
    shared.handling.cors =
        Some(Cors { allow_origins: vec!["https://app.example".into()], ..Cors::default() });
    vec![known(41, "/mine", OnOutage::FailClosed), known(42, "/maybe", OnOutage::FailOpen), shared]
}

/// The only route for known users has the match of one before it, and so answers nothing.
fn hidden_by_another() -> Vec<EdgeRoute> {
    let mut hidden = fixed(45, "/one");
    hidden.handling.auth = Some(OnOutage::FailClosed);
    vec![fixed(44, "/one"), hidden]
}

fn trusting(address_from: AddressFrom) -> EdgeConfigSpec {
    let networks = vec!["10.0.0.0/8".into(), "fd00::/8".into()];
    EdgeConfigSpec {
        trusted_proxies: Some(TrustedProxies { networks, address_from }),
        ..spec(vec![moving(51, "/behind")])
    }
}

fn tls(redirect_to: Option<i32>) -> EdgeTls {
    let certificate = |number, hosts: &[&str]| EdgeCertificate {
        id: id(number),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    };
    EdgeTls {
        min_version: if redirect_to.is_some() { TlsVersion::Tls12 } else { TlsVersion::Tls13 },
        redirect_to,
        certificates: vec![certificate(1, &[]), certificate(2, &["b.example"])],
    }
}
