//! Users who are known, as a real NGINX asks for them.

use crate::support::{Answer, Backend, Pod, config, fixed};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use stomaton_crds::v1alpha1::{Cors, EdgeAuth, EdgeConfigSpec, EdgeRoute, OnOutage};

/// Knows users by their token. Whatever it says of one, it gives a name, and says in the roles what it was asked.
async fn knows(request: Request) -> Response {
    let header = |name| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or("-").to_owned()
    };
    let [token, method, uri, user] =
        ["authorization", "x-original-method", "x-original-uri", "x-user-id"].map(header);
    let asked = format!("{} for {method} {uri} by {user}", request.uri());
    drop(request);
    let status = match token.as_str() {
        "good" => StatusCode::NO_CONTENT,
        "banned" => StatusCode::FORBIDDEN,
        "broken" => StatusCode::INTERNAL_SERVER_ERROR,
        "odd" => StatusCode::NOT_FOUND,
        "silent" => std::future::pending().await,
        _ => StatusCode::UNAUTHORIZED,
    };
    (status, [("x-user-id", "7"), ("x-user-roles", &asked), ("www-authenticate", "Bearer")]).into_response()
}

fn for_known(number: u64, path: &str, on_outage: OnOutage) -> EdgeRoute {
    let mut route = fixed(number, path);
    route.handling.auth = Some(on_outage);
    route
}

struct Asking {
    pod: Pod,
    auth: Option<Backend>,
    _monolith: Backend,
}

impl Asking {
    /// `/mine` is closed in an outage, `/maybe` is open, `/all` is for everybody.
    async fn start() -> Self {
        let (monolith, auth) =
            (Backend::start("monolith").await, Backend::of(Router::new().fallback(knows)).await);
        let mut mine = for_known(1, "/mine", OnOutage::FailClosed);
        mine.handling.cors =
            Some(Cors { allow_origins: vec!["https://app.example".into()], ..Cors::default() });
        let routes = vec![mine, for_known(2, "/maybe", OnOutage::FailOpen), fixed(3, "/all")];
        let edge_auth = EdgeAuth {
            backend: Some("auth".into()),
            path: "/internal/auth/verify".into(),
            identity_headers: vec!["x-user-id".into(), "x-user-roles".into()],
            timeout_millis: 200,
        };
        let backends = [("m", &monolith), ("auth", &auth)];
        let spec = EdgeConfigSpec { auth: Some(edge_auth), ..config(1, &backends, routes) };
        Self { pod: Pod::serving(spec).await, auth: Some(auth), _monolith: monolith }
    }

    /// Somebody with this token, who says to be user 1.
    async fn get(&self, path: &str, token: &str) -> Answer {
        self.pod.get(path, &[("authorization", token), ("x-user-id", "1"), ("x-user-roles", "admin")]).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_known_goes_to_the_backend_with_a_name() {
    let edge = Asking::start().await;
    for path in ["/mine/x?q=%20", "/maybe/x?q=%20"] {
        let answer = edge.get(path, "good").await;
        assert_eq!((answer.status, answer.backend().as_str()), (200, "monolith"), "{path}");
        assert_eq!(answer.told("x-user-id").as_deref(), Some("7"));
        // Asked of the service's own path, about the request as it was sent, without what the client says of itself.
        let asked = format!("/internal/auth/verify for GET {path} by -");
        assert_eq!(answer.told("x-user-roles"), Some(asked));
        assert_eq!(answer.told("authorization").as_deref(), Some("good"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_is_refused() {
    let edge = Asking::start().await;
    for path in ["/mine", "/maybe", "/mine/x"] {
        let unknown = edge.get(path, "bad").await;
        assert_eq!((unknown.status, unknown.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        let banned = edge.get(path, "banned").await;
        assert_eq!((banned.status, banned.told("host")), (403, None), "{path}");
    }
    assert_eq!(edge.pod.get("/mine", &[]).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_says_who_he_is_where_nobody_is_asked() {
    let edge = Asking::start().await;
    for path in ["/all", "/elsewhere"] {
        let answer = edge.get(path, "good").await;
        assert_eq!((answer.status, answer.told("x-user-id"), answer.told("x-user-roles")), (200, None, None));
    }
    // The location behind it is not for clients.
    for inside in ["/.stomaton/auth", "/.stomaton/auth-open"] {
        assert_eq!(edge.get(inside, "good").await.status, 404, "{inside}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_closes_or_opens_as_the_route_says() {
    let mut edge = Asking::start().await;
    for token in ["broken", "silent", "gone"] {
        if token == "gone" {
            edge.auth = None;
        }
        let closed = edge.get("/mine", token).await;
        assert_eq!(
            (closed.status, closed.header("content-type")),
            (503, Some("application/json")),
            "{token}"
        );
        let open = edge.get("/maybe", token).await;
        assert_eq!((open.status, open.backend().as_str()), (200, "monolith"), "{token}");
        // What a failing service says of a user is worth nothing.
        assert_eq!((open.told("x-user-id"), open.told("x-user-roles")), (None, None), "{token}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_neither_yes_nor_no_lets_nobody_through() {
    let edge = Asking::start().await;
    for path in ["/mine", "/maybe"] {
        assert_eq!(edge.get(path, "odd").await.status, 503, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflights_need_no_token_and_refusals_can_be_read_by_pages() {
    let edge = Asking::start().await;
    let origin = ("origin", "https://app.example");
    let mut client = crate::support::Client::connect(edge.pod.address).await;
    let headers = [origin, ("access-control-request-method", "POST")];
    assert_eq!(client.send("OPTIONS", "/mine", &headers).await.unwrap().status, 204);
    let refused = client.send("GET", "/mine", &[origin]).await.unwrap();
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example"));
}
