//! The content service: generated texts about stones.
//!
//! `POST generate`, `GET recent?limit=`, `GET stats`, under whatever path they are nested.

pub(crate) mod generator;
pub(crate) mod model;
pub(crate) mod offline;
mod repository;
mod sanitise;

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use stomaton_kit::{ApiError, Blueprint, Config, Json, Query, Service, Settings, StartError};

pub(crate) use self::{
    generator::{Brief, GenerateError, Generator, generator},
    model::{Content, Order, Stats, Summary},
    offline::first_contents,
    repository::{find, insert, recent, stats},
};
use crate::{
    library::Library,
    page::{default_limit, limited},
};

/// Where the content service answers, and where the monolith answers the same.
pub const PATH: &str = "/api/v1/content";

const NAME: &str = "content";

/// The content service as the fleet knows it.
pub const BLUEPRINT: Blueprint =
    Blueprint { name: NAME, port: 8001, about: "generates, lists and counts texts about stones", build };

fn build(config: &Config, settings: &Settings) -> Result<Service, StartError> {
    let library = Library::open(NAME, config, settings)?;
    Ok(Service { stand_ins: library.stand_ins(), routes: service_routes(&library) })
}

/// The routes of the service on its own.
pub(crate) fn service_routes(library: &Library) -> Router {
    Router::new().nest(PATH, routes(library))
}

/// The routes without their path.
pub(crate) fn routes(library: &Library) -> Router {
    Router::new()
        .route("/generate", post(post_generate))
        .route("/recent", get(get_recent))
        .route("/stats", get(get_stats))
        .with_state(library.clone())
}

async fn post_generate(
    State(library): State<Library>,
    Json(order): Json<model::OrderRequest>,
) -> Result<Json<Content>, ApiError> {
    let order = order.checked()?;
    Ok(Json(library.generate(order).await?))
}

#[derive(Deserialize)]
struct RecentQuery {
    #[serde(default = "default_limit")]
    limit: u32,
}

#[derive(Serialize)]
struct Recent {
    items: Vec<Summary>,
}

async fn get_recent(
    State(library): State<Library>,
    Query(query): Query<RecentQuery>,
) -> Result<Json<Recent>, ApiError> {
    let limit = limited(query.limit)?;
    Ok(Json(Recent { items: library.recent(limit).await? }))
}

async fn get_stats(State(library): State<Library>) -> Result<Json<Stats>, ApiError> {
    Ok(Json(library.stats().await?))
}
