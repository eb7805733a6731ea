//! Puts a service's routes and the kit's together. Takes a [`Service`] and its [`Config`], gives a router. No I/O.

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, http::HeaderValue, middleware::from_fn_with_state};

use crate::{
    Config, Service,
    auth::{self, Callers},
    fault::{self, Switch},
    health::{self, Life},
    metrics::{self, Metrics},
    observe::{Observer, observe},
};

/// Bytes. Services take short JSON; a larger body is a mistake or an attack.
const BODY_LIMIT: usize = 64 * 1024;

/// A service that is ready to be served, on a socket or in a test.
#[derive(Debug, Clone)]
pub struct App {
    /// Answers everything: the API, `/health`, `/metrics`, and `/_fault` where it is allowed.
    pub router: Router,
    pub(crate) life: Arc<Life>,
}

/// Wraps a service in everything that the fleet has in common.
pub fn app(service: Service, config: &Config) -> App {
    let life = Arc::new(Life::default());
    let metrics = Arc::new(Metrics::new(&config.service_name));
    let observer = Observer {
        service: config.service_name.clone(),
        served_by: HeaderValue::try_from(&config.service_name).unwrap_or(HeaderValue::from_static("unnamed")),
        metrics: metrics.clone(),
        life: life.clone(),
    };
    let router = api(guarded(service.routes, config), config.faults)
        .merge(health::routes(life.clone(), config, service.stand_ins))
        .merge(metrics::routes(metrics))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(Arc::new(observer), observe));
    App { router, life }
}

/// Tokens are asked for at the API only: probes and Prometheus have none.
fn guarded(routes: Router, config: &Config) -> Router {
    if !routes.has_routes() {
        return routes;
    }
    routes.route_layer(from_fn_with_state(Arc::new(Callers::new(config.callers.clone())), auth::check))
}

/// The switch is around matched API routes only: probes and metrics tell the truth while a fault is on.
fn api(routes: Router, faults: bool) -> Router {
    if !faults {
        return routes;
    }
    let switch = Arc::new(Switch::default());
    routes.route_layer(from_fn_with_state(switch.clone(), fault::inject)).merge(fault::routes(switch))
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Method, Request, StatusCode},
        response::Response,
        routing::{get, post},
    };
    use http_body_util::BodyExt;
    use serde::Deserialize;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;
    use crate::{ApiError, Blueprint, Json, Query, Settings};

    #[derive(Deserialize)]
    struct Page {
        limit: u8,
    }

    const BLUEPRINT: Blueprint = Blueprint {
        name: "probe",
        port: 1,
        about: "",
        build: |_, _| Ok(Service { routes: Router::new(), stand_ins: Vec::new() }),
    };

    async fn broken() -> StatusCode {
        panic!("a bug")
    }

    fn probe(faults: &str) -> App {
        let config = Config::read(&BLUEPRINT, &Settings::fixed([("FAULTS", faults)])).unwrap();
        let routes = Router::new()
            .route("/things/{id}", get(|| async { "thing" }))
            .route("/page", get(|Query(page): Query<Page>| async move { page.limit.to_string() }))
            .route("/page", post(|Json(page): Json<Page>| async move { page.limit.to_string() }))
            .route("/gone", get(|| async { ApiError::not_found("it was here yesterday") }))
            .route("/broken", get(broken));
        app(Service { routes, stand_ins: vec!["paper moon".to_owned()] }, &config)
    }

    async fn send(app: &App, method: Method, path: &str, body: &str) -> Response {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .header("x-correlation-id", "c-1")
            .body(Body::from(body.to_owned()))
            .unwrap();
        app.router.clone().oneshot(request).await.unwrap()
    }

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    async fn error(app: &App, method: Method, path: &str, body: &str) -> (u16, Value) {
        let response = send(app, method, path, body).await;
        assert_eq!(response.headers()["content-type"], "application/json");
        (response.status().as_u16(), serde_json::from_str(&text(response).await).unwrap())
    }

    #[tokio::test]
    async fn answers_say_who_gave_them_and_to_which_request() {
        let response = send(&probe("deny"), Method::GET, "/things/7", "").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-served-by"], "probe");
        assert_eq!(response.headers()["x-correlation-id"], "c-1");
        assert!(!response.headers().contains_key("connection"));
    }

    #[tokio::test]
    async fn every_error_has_the_one_shape() {
        let app = probe("deny");
        let shape = |code: &str, message: &str| json!({"error": {"code": code, "message": message, "correlation_id": "c-1"}});
        let nothing = shape("not_found", "there is nothing at this path");
        assert_eq!(error(&app, Method::GET, "/nowhere", "").await, (404, nothing));
        let gone = shape("not_found", "it was here yesterday");
        assert_eq!(error(&app, Method::GET, "/gone", "").await, (404, gone));

        for (method, path, body, status, code, hint) in [
            (Method::DELETE, "/gone", "", 405, "method_not_allowed", "Allow"),
            (Method::GET, "/page?limit=many", "", 400, "bad_request", "invalid digit"),
            (Method::POST, "/page", "{", 400, "bad_request", "EOF"),
            (Method::POST, "/page", "{}", 422, "unprocessable", "missing field `limit`"),
            (
                Method::POST,
                "/page",
                &format!("\"{}\"", "x".repeat(BODY_LIMIT)),
                413,
                "too_large",
                "too large",
            ),
        ] {
            let (got, body) = error(&app, method, path, body).await;
            let message = body["error"]["message"].as_str().unwrap();
            assert_eq!((got, body["error"]["code"].as_str().unwrap()), (status, code), "{path}");
            assert!(message.contains(hint), "{path}: {message}");
        }
    }

    #[tokio::test]
    async fn tokens_are_asked_for_at_the_api_only() {
        let directory = std::env::temp_dir().join(format!("stomaton-kit-{}-app", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("shop"), "right\n").unwrap();
        let callers = directory.to_str().unwrap();
        let config = Config::read(&BLUEPRINT, &Settings::fixed([("CALLERS_DIR", callers)])).unwrap();
        let routes = Router::new().route("/things", get(|| async { "thing" }));
        let app = app(Service { routes, stand_ins: Vec::new() }, &config);
        let status = async |path: &str, token: Option<&str>| {
            let request = Request::builder().uri(path);
            let request = token.into_iter().fold(request, |r, token| r.header("x-service-token", token));
            app.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
        };
        assert_eq!(status("/things", None).await, 401);
        assert_eq!(status("/things", Some("wrong")).await, 401);
        assert_eq!(status("/things", Some("right")).await, 200);
        for open in ["/health", "/health/live", "/health/ready", "/metrics"] {
            assert_eq!(status(open, None).await, 200, "{open}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let (status, body) = error(&probe("deny"), Method::GET, "/broken", "").await;
        assert_eq!((status, body["error"]["code"].as_str().unwrap()), (500, "internal"));
        assert!(!body.to_string().contains("a bug"), "the cause is not for clients");
    }

    #[tokio::test]
    async fn health_tells_and_readiness_turns_with_the_drain() {
        let app = probe("deny");
        let summary: Value =
            serde_json::from_str(&text(send(&app, Method::GET, "/health", "").await).await).unwrap();
        assert_eq!((&summary["status"], &summary["service"]), (&json!("ok"), &json!("probe")));
        assert_eq!(summary["stand_ins"], json!(["paper moon"]));
        assert_eq!(send(&app, Method::GET, "/health/ready", "").await.status(), StatusCode::OK);

        app.life.start_draining();
        assert_eq!(
            send(&app, Method::GET, "/health/ready", "").await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(send(&app, Method::GET, "/health/live", "").await.status(), StatusCode::OK);
        let response = send(&app, Method::GET, "/things/7", "").await;
        assert_eq!(
            (response.status(), &response.headers()["connection"]),
            (StatusCode::OK, &HeaderValue::from_static("close"))
        );
    }

    #[tokio::test]
    async fn metrics_count_by_route_template_method_and_class() {
        let app = probe("deny");
        for path in ["/things/1", "/things/2", "/gone", "/nowhere/1", "/nowhere/2"] {
            send(&app, Method::GET, path, "").await;
        }
        let metrics = text(send(&app, Method::GET, "/metrics", "").await).await;
        for line in [
            r#"http_requests_total{service="probe",method="GET",route="/things/{id}",status="2xx"} 2"#,
            r#"http_requests_total{service="probe",method="GET",route="/gone",status="4xx"} 1"#,
            r#"http_requests_total{service="probe",method="GET",route="unmatched",status="4xx"} 2"#,
            r#"http_request_duration_seconds_count{service="probe",method="GET",route="/things/{id}",status="2xx"} 2"#,
        ] {
            assert!(metrics.contains(line), "{line} is not in\n{metrics}");
        }
    }

    #[tokio::test]
    async fn the_fault_switch_hurts_an_exact_share_of_the_api_and_nothing_else() {
        let app = probe("allow");
        let fault = r#"{"errors_permille":333,"status":503}"#;
        let set: Value =
            serde_json::from_str(&text(send(&app, Method::PUT, "/_fault", fault).await).await).unwrap();
        assert_eq!(
            set,
            json!({"errors_permille": 333, "status": 503, "latency_ms": 0, "latency_permille": 0})
        );

        let mut failed = 0;
        for _ in 0..1000 {
            let status = send(&app, Method::GET, "/things/7", "").await.status();
            failed += usize::from(status == StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(send(&app, Method::GET, "/health/ready", "").await.status(), StatusCode::OK);
        }
        assert_eq!(failed, 333);

        send(&app, Method::DELETE, "/_fault", "").await;
        for _ in 0..1000 {
            assert_eq!(send(&app, Method::GET, "/things/7", "").await.status(), StatusCode::OK);
        }
    }

    #[tokio::test]
    async fn a_wrong_fault_changes_nothing() {
        let app = probe("allow");
        let before = text(send(&app, Method::GET, "/_fault", "").await).await;
        for bad in [r#"{"errors_permille":1001}"#, r#"{"error_permille":1}"#, r#"{"status":200}"#] {
            assert_eq!(error(&app, Method::PUT, "/_fault", bad).await.0, 422, "{bad}");
        }
        assert_eq!(text(send(&app, Method::GET, "/_fault", "").await).await, before);
    }

    #[tokio::test]
    async fn there_is_no_fault_switch_unless_it_is_allowed() {
        let fault = r#"{"errors_permille":1000}"#;
        assert_eq!(error(&probe("deny"), Method::PUT, "/_fault", fault).await.0, 404);
    }
}
