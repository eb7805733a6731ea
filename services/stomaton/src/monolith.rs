//! The unified API that the services are taken out of: everything under `/api/v1/stomaton`.
//!
//! Content is answered under the content service's own path too, so that a route can be moved path for path
//! and the two sides compared on real answers.

use axum::{
    Router,
    extract::{Path, State},
    routing::get,
};
use serde::{Deserialize, Serialize};
use stomaton_kit::{ApiError, Blueprint, Config, Json, Query, Service, Settings, StartError};

use crate::{
    catalogue::Stone,
    content,
    library::Library,
    page::{default_limit, limited},
};

const NAME: &str = "monolith";
const MAX_QUERY: usize = 100;

/// The monolith as the fleet knows it.
pub const BLUEPRINT: Blueprint = Blueprint {
    name: NAME,
    port: 8000,
    about: "the unified STOMATON API: stones, search and content",
    build,
};

fn build(config: &Config, settings: &Settings) -> Result<Service, StartError> {
    let library = Library::open(NAME, config, settings)?;
    Ok(Service { stand_ins: library.stand_ins(), routes: routes(&library) })
}

fn routes(library: &Library) -> Router {
    let unified = Router::new()
        .route("/stones", get(list))
        .route("/stones/{id}", get(show))
        .route("/search", get(search))
        .with_state(library.clone())
        .nest("/content", content::routes(library));
    Router::new().nest("/api/v1/stomaton", unified).merge(content::service_routes(library))
}

async fn show(State(library): State<Library>, Path(id): Path<String>) -> Result<Json<Stone>, ApiError> {
    match library.stone(id).await? {
        Some(stone) => Ok(Json(stone)),
        None => Err(ApiError::not_found("no stone has this id; GET /api/v1/stomaton/stones lists them")),
    }
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    after: String,
    #[serde(default = "default_limit")]
    limit: u32,
}

#[derive(Serialize)]
struct Stones {
    items: Vec<Stone>,
}

async fn list(
    State(library): State<Library>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Stones>, ApiError> {
    let limit = limited(query.limit)?;
    Ok(Json(Stones { items: library.stones(query.after, limit).await? }))
}

#[derive(Deserialize)]
struct SearchQuery {
    q: String,
    #[serde(default = "default_limit")]
    limit: u32,
}

async fn search(
    State(library): State<Library>,
    Query(query): Query<SearchQuery>,
) -> Result<Json<Stones>, ApiError> {
    let limit = limited(query.limit)?;
    if query.q.trim().is_empty() || query.q.chars().count() > MAX_QUERY {
        return Err(ApiError::bad_request("q is 1 to 100 characters to search for"));
    }
    Ok(Json(Stones { items: library.search(query.q, limit).await? }))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use stomaton_kit::app;
    use tower::ServiceExt;

    use super::*;
    use crate::library::tests::library;

    /// A side as it is served, with the kit around it.
    fn side(blueprint: &Blueprint, routes: fn(&Library) -> Router) -> Router {
        let config = Config::read(blueprint, &Settings::fixed([])).unwrap();
        app(Service { routes: routes(&library()), stand_ins: Vec::new() }, &config).router
    }

    async fn ask(side: &Router, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .header("x-correlation-id", "same")
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = side.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn get_json(side: &Router, path: &str) -> (u16, Value) {
        let (status, body) = ask(side, "GET", path, "").await;
        (status.as_u16(), serde_json::from_str(&body).unwrap())
    }

    #[tokio::test]
    async fn both_sides_answer_byte_for_byte_the_same() {
        let service = side(&content::BLUEPRINT, content::service_routes);
        let monolith = side(&BLUEPRINT, routes);
        let ruby = r#"{"stone_id":"ruby-mogok","kind":"care","audience":"supplier","notes":"<b>Lot</b> 7"}"#;
        let requests = [
            ("GET", "stats", "", 200),
            ("GET", "recent", "", 200),
            ("POST", "generate", ruby, 200),
            ("POST", "generate", r#"{"stone_id":"emerald-muzo"}"#, 200),
            ("POST", "generate", ruby, 200),
            ("GET", "recent?limit=100", "", 200),
            ("GET", "stats", "", 200),
            ("POST", "generate", r#"{"stone_id":"brick"}"#, 422),
            ("POST", "generate", r#"{"stone_id":"ruby-mogok","kind":"song"}"#, 422),
            ("POST", "generate", r#"{"stone_id":"ruby-mogok","colour":"red"}"#, 422),
            ("POST", "generate", "{", 400),
            ("GET", "recent?limit=0", "", 400),
            ("GET", "recent?limit=x", "", 400),
            ("GET", "generate", "", 405),
            ("GET", "nothing", "", 404),
        ];
        for (method, path, body, status) in requests {
            let here = ask(&service, method, &format!("/api/v1/content/{path}"), body).await;
            let there = ask(&monolith, method, &format!("/api/v1/content/{path}"), body).await;
            let unified = ask(&monolith, method, &format!("/api/v1/stomaton/content/{path}"), body).await;
            assert_eq!(here.0.as_u16(), status, "{path}: {}", here.1);
            assert_eq!((&here, &here), (&there, &unified), "{path}");
        }
    }

    #[tokio::test]
    async fn a_generated_text_is_counted_and_listed_first() {
        let monolith = side(&BLUEPRINT, routes);
        let (_, before) = get_json(&monolith, "/api/v1/stomaton/content/stats").await;
        assert_eq!(before["contents"], 286);

        let order = r#"{"stone_id":"ruby-mogok","kind":"care","notes":"<i>Oval</i>, 2 ct"}"#;
        let (_, content) = ask(&monolith, "POST", "/api/v1/stomaton/content/generate", order).await;
        let content: Value = serde_json::from_str(&content).unwrap();
        assert_eq!((&content["title"], &content["kind"]), (&json!("Caring for ruby"), &json!("care")));
        assert!(content["body"].as_str().unwrap().ends_with("Note: Oval , 2 ct"), "{content}");

        let (_, recent) = get_json(&monolith, "/api/v1/stomaton/content/recent?limit=1").await;
        assert_eq!(recent["items"][0]["id"], content["id"]);
        assert_eq!(recent["items"][0]["generated_at"], "2026-01-01T12:00:00Z");
        let (_, after) = get_json(&monolith, "/api/v1/stomaton/content/stats").await;
        assert_eq!((&after["contents"], &after["by_kind"]["care"]), (&json!(287), &json!(1)));
    }

    #[tokio::test]
    async fn the_monolith_serves_more_than_the_service_takes_over() {
        let monolith = side(&BLUEPRINT, routes);
        let (status, stone) = get_json(&monolith, "/api/v1/stomaton/stones/emerald-muzo").await;
        assert_eq!(
            (status, &stone["species"], &stone["country"]),
            (200, &json!("beryl"), &json!("Colombia"))
        );
        let (status, found) = get_json(&monolith, "/api/v1/stomaton/search?q=emerald%20colombia").await;
        let ids: Vec<_> =
            found["items"].as_array().unwrap().iter().map(|stone| stone["id"].clone()).collect();
        assert_eq!((status, ids), (200, vec![json!("emerald-chivor"), json!("emerald-muzo")]));
        let (_, page) = get_json(&monolith, "/api/v1/stomaton/stones?limit=1&after=emerald-muzo").await;
        assert_eq!(page["items"][0]["id"], "emerald-panjshir");

        for (path, status) in
            [("stones/brick", 404), ("search", 400), ("search?q=%20", 400), ("search?q=a&limit=101", 400)]
        {
            assert_eq!(get_json(&monolith, &format!("/api/v1/stomaton/{path}")).await.0, status, "{path}");
        }
        let service = side(&content::BLUEPRINT, content::service_routes);
        assert_eq!(get_json(&service, "/api/v1/stomaton/stones/emerald-muzo").await.0, 404);
    }
}
