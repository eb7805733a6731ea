//! What the edge adds to answers, and what it answers itself, as a real NGINX does it.

use crate::support::{Authority, Backend, Client, Pod, ROTATE_AT, config, fixed, id, moving};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use stomaton_crds::v1alpha1::{
    Cors, EdgeCertificate, EdgeConfigSpec, EdgeRoute, EdgeTls, FrameOptions, Method, ReferrerPolicy,
    SecurityHeaders, TlsVersion,
};
use tokio_rustls::rustls::ALL_VERSIONS;

const HEADERS: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("content-security-policy", "default-src 'self'"),
];

fn protecting() -> Option<SecurityHeaders> {
    Some(SecurityHeaders {
        no_sniff: true,
        frame_options: FrameOptions::Deny,
        referrer_policy: ReferrerPolicy::SameOrigin,
        hsts_seconds: 600,
        content_security_policy: Some("default-src 'self'".into()),
    })
}

fn shared(route: EdgeRoute, cors: Cors) -> EdgeRoute {
    let mut route = route;
    route.handling.cors = Some(cors);
    route
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_maintenance_everybody_is_told_when_to_come_again() {
    let (m, s) = (Backend::start("monolith").await, Backend::start("service").await);
    let spec = |revision, maintenance_seconds| EdgeConfigSpec {
        maintenance_seconds,
        security_headers: protecting(),
        ..config(revision, &[("m", &m), ("s", &s)], vec![moving(1, "/a")])
    };
    let pod = Pod::serving(spec(1, Some(120))).await;
    for path in ["/", "/a", "/a/x?y"] {
        let answer = pod.get(path, &[]).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("120")), "{path}");
        assert_eq!(answer.text(), r#"{"error":"maintenance"}"#);
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    }
    assert_eq!(pod.get("/health", &[]).await.status, 200);
    // Nothing of it counts against a route.
    let state = pod.until(|state| state.lines == 3).await;
    assert!(state.counters.is_empty(), "{:?}", state.counters);
    pod.serve(spec(2, None)).await;
    assert_eq!(pod.get("/a", &[]).await.backend(), "monolith");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_protected_unless_a_backend_says_otherwise() {
    let own = HEADERS.map(|(name, _)| (name, "of-its-own"));
    let app = Router::new()
        .route("/own", get((own, "x")))
        .route("/bare", get("x"))
        .route("/broken", get(StatusCode::INTERNAL_SERVER_ERROR));
    let m = Backend::of(app).await;
    let cors = Cors { allow_origins: vec!["*".into()], ..Cors::default() };
    let spec = EdgeConfigSpec {
        security_headers: protecting(),
        hidden_paths: vec!["/hidden".into()],
        ..config(1, &[("m", &m)], vec![shared(fixed(1, "/bare"), cors)])
    };
    let pod = Pod::serving(spec).await;
    for (path, status) in [("/bare", 200), ("/broken", 500), ("/hidden", 404), ("/none", 404)] {
        let answer = pod.get(path, &[]).await;
        assert_eq!(answer.status, status, "{path}");
        for (name, value) in HEADERS {
            let said: Vec<_> = answer.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v).collect();
            assert_eq!(said, [value], "{name} of {path}");
        }
        assert_eq!(answer.header("strict-transport-security"), None, "over plain HTTP it means nothing");
    }
    let answer = pod.get("/own", &[]).await;
    for (name, value) in own {
        let said: Vec<_> = answer.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v).collect();
        assert_eq!(said, [value], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_https_browsers_are_told_to_stay_there() {
    let m = Backend::start("monolith").await;
    let (authority, pod) = (Authority::new(), Pod::start(ROTATE_AT).await);
    authority.mount(&pod, 1, &["a.example"]);
    let certificates = vec![EdgeCertificate { id: id(1), hosts: vec![] }];
    let tls = Some(EdgeTls { min_version: TlsVersion::Tls12, redirect_to: None, certificates });
    pod.serve(EdgeConfigSpec { tls, security_headers: protecting(), ..config(1, &[("m", &m)], vec![]) })
        .await;
    let mut secured = authority.connect(&pod, "a.example", ALL_VERSIONS).await.unwrap();
    let answer = secured.client.send("GET", "/", &[]).await.unwrap();
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=600"));
    assert_eq!(pod.get("/", &[]).await.header("strict-transport-security"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflights_are_answered_by_the_edge() {
    let m = Backend::start("monolith").await;
    let app = Cors {
        allow_origins: vec!["https://app.example".into(), "http://localhost:3000".into()],
        allow_methods: vec![Method::GET, Method::PUT],
        allow_headers: vec!["content-type".into(), "x-request".into()],
        expose_headers: vec!["etag".into()],
        allow_credentials: true,
        max_age_seconds: 600,
    };
    let pod = Pod::serving(config(1, &[("m", &m), ("s", &m)], vec![shared(moving(1, "/a"), app)])).await;
    let mut client = Client::connect(pod.address).await;
    let ask = ("access-control-request-method", "PUT");
    for origin in ["https://app.example", "http://localhost:3000"] {
        let preflight = client.send("OPTIONS", "/a/x", &[("origin", origin), ask]).await.unwrap();
        assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some(origin)));
        assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, PUT"));
        assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type, x-request"));
        assert_eq!(preflight.header("access-control-max-age"), Some("600"));
        assert_eq!(preflight.header("access-control-allow-credentials"), Some("true"));
        let answer = client.send("GET", "/a/x", &[("origin", origin)]).await.unwrap();
        assert_eq!((answer.status, answer.backend().as_str()), (200, "monolith"));
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-expose-headers"), Some("etag"));
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    for stranger in ["https://evil.example", "https://app.example.evil", "null"] {
        let preflight = client.send("OPTIONS", "/a/x", &[("origin", stranger), ask]).await.unwrap();
        assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, None));
        let answer = client.send("GET", "/a/x", &[("origin", stranger)]).await.unwrap();
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
    }
    // No preflight: the backend's to answer.
    assert_eq!(client.send("OPTIONS", "/a/x", &[]).await.unwrap().backend(), "monolith");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_backends_say_of_other_origins_is_left_out() {
    let loose = [("access-control-allow-origin", "https://evil.example"), ("access-control-max-age", "1")];
    let m = Backend::of(Router::new().fallback(get((loose, "x")))).await;
    let all = Cors { allow_origins: vec!["*".into()], ..Cors::default() };
    let pod = Pod::serving(config(1, &[("m", &m)], vec![shared(fixed(1, "/open"), all)])).await;
    let answer = pod.get("/open", &[("origin", "https://anybody.example")]).await;
    let said: Vec<_> =
        answer.headers.iter().filter(|(name, _)| name.starts_with("access-control-")).collect();
    assert_eq!(said, [&("access-control-allow-origin".to_owned(), "*".to_owned())]);
    assert_eq!(pod.get("/open", &[]).await.header("access-control-allow-origin"), None);
    // Where the Gateway says nothing, backends decide.
    let answer = pod.get("/else", &[("origin", "https://anybody.example")]).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://evil.example"));
}
