//! The auth service: whom a token is of. So far it only checks tokens; whoever signs users in makes them, with the same
//! key.
//!
//! `GET verify` is for an edge that asks before it passes a request on, `POST validate` for services. Does no I/O.

mod token;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use ring::hmac;
use serde::{Deserialize, Serialize};
use stomaton_kit::{
    ApiError, Blueprint, Config, ConfigError, Environment, Json, Service, Settings, StartError,
};
use tracing::debug;

use token::{TokenError, User, check};

/// Where it answers. Nobody outside may ask there.
const PATH: &str = "/internal/auth";
/// Bytes of a key: fewer than those of the hash would be the weakest part (RFC 7518, 3.2).
const SHORTEST: usize = 32;
/// What everybody knows.
const DEVELOPMENT_KEY: &str = "stomaton-development-key-that-is-no-secret";

/// The auth service as the fleet knows it.
pub const BLUEPRINT: Blueprint =
    Blueprint { name: "auth", port: 8007, about: "says whom a token is of", build };

/// What it needs to tell.
#[derive(Clone)]
struct Auth {
    key: hmac::Key,
    clock: fn() -> Timestamp,
}

fn build(config: &Config, settings: &Settings) -> Result<Service, StartError> {
    let secret = secret(config.environment, settings)?;
    let stand_ins = match secret == DEVELOPMENT_KEY {
        true => vec!["JWT_SECRET: a key that everybody knows".to_owned()],
        false => Vec::new(),
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    Ok(Service { routes: routes(Auth { key, clock: Timestamp::now }), stand_ins })
}

/// The key, which no message ever shows.
fn secret(environment: Environment, settings: &Settings) -> Result<String, ConfigError> {
    match settings.get("JWT_SECRET") {
        Some(secret) if secret.len() < SHORTEST => Err(ConfigError::Refused {
            what: "JWT_SECRET has fewer than 32 bytes, so it could be guessed",
            remedy: "set it to 32 random bytes or more, as whoever signs users in has it",
        }),
        Some(secret) if secret == DEVELOPMENT_KEY && environment == Environment::Production => {
            Err(ConfigError::Refused {
                what: "JWT_SECRET is the key for development, which everybody knows",
                remedy: "set it to the key of whoever signs users in",
            })
        }
        Some(secret) => Ok(secret),
        None if environment == Environment::Development => Ok(DEVELOPMENT_KEY.into()),
        None => Err(ConfigError::Missing {
            name: "JWT_SECRET",
            remedy: "tokens are checked with it: set it to the key of whoever signs users in, 32 bytes or more",
        }),
    }
}

fn routes(auth: Auth) -> Router {
    let routes =
        Router::new().route("/verify", get(verify)).route("/validate", post(validate)).with_state(auth);
    Router::new().nest(PATH, routes)
}

/// 204 and who it is, in headers and without a body; 401 for everybody else. The error says no more than that: who
/// tries tokens shall learn nothing.
async fn verify(State(auth): State<Auth>, headers: HeaderMap) -> Response {
    let known = bearer(&headers).and_then(|token| check(token, &auth.key, (auth.clock)()));
    let known = known.and_then(|user| identity(&user));
    match known {
        Ok(identity) => (StatusCode::NO_CONTENT, identity).into_response(),
        Err(error) => {
            debug!(%error, "nobody is known by a token");
            let message = "show a valid token: Authorization: Bearer TOKEN";
            let error = ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated", message);
            ([(header::WWW_AUTHENTICATE, "Bearer")], error).into_response()
        }
    }
}

/// The token of `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Result<&str, TokenError> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = value.and_then(|value| value.split_once(' ')).ok_or(TokenError::Malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(TokenError::Malformed) }
}

fn identity(user: &User) -> Result<HeaderMap, TokenError> {
    let value = |text: &str| HeaderValue::try_from(text).map_err(|_| TokenError::Names);
    let mut headers = HeaderMap::new();
    headers.insert("x-user-id", value(&user.id)?);
    if !user.roles.is_empty() {
        headers.insert("x-user-roles", value(&user.roles.join(","))?);
    }
    Ok(headers)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    token: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Verdict {
    Known { valid: bool, user_id: String, roles: Vec<String>, expires_at: i64 },
    Nobody { valid: bool },
}

async fn validate(State(auth): State<Auth>, Json(Question { token }): Json<Question>) -> Json<Verdict> {
    Json(match check(&token, &auth.key, (auth.clock)()) {
        Ok(User { id, roles, expires }) => {
            Verdict::Known { valid: true, user_id: id, roles, expires_at: expires }
        }
        Err(_) => Verdict::Nobody { valid: false },
    })
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use stomaton_kit::app;
    use tower::ServiceExt;

    use super::{
        token::tests::{SECRET, key, signed},
        *,
    };

    fn served() -> Router {
        let config = Config::read(&BLUEPRINT, &Settings::fixed([])).unwrap();
        let clock = || Timestamp::from_second(100).unwrap();
        let routes = routes(Auth { key: key(SECRET), clock });
        app(Service { routes, stand_ins: Vec::new() }, &config).router
    }

    fn token(claims: &Value) -> String {
        signed(SECRET, &json!({"alg": "HS256"}), claims)
    }

    async fn verified(authorization: Option<&str>) -> Response {
        let mut request = Request::get("/internal/auth/verify");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        served().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn an_edge_learns_who_a_user_is_from_headers_alone() {
        let token = token(&json!({"sub": "u-1", "roles": ["admin", "staff"], "exp": 200}));
        for scheme in ["Bearer", "bearer"] {
            let answer = verified(Some(&format!("{scheme} {token}"))).await;
            assert_eq!(answer.status(), StatusCode::NO_CONTENT);
            assert_eq!(answer.headers()["x-user-id"], "u-1");
            assert_eq!(answer.headers()["x-user-roles"], "admin,staff");
            // A body, and be it one of chunks, would cost the edge a connection for each request.
            assert!(!answer.headers().contains_key("transfer-encoding"));
            assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
        }
    }

    #[tokio::test]
    async fn a_user_without_roles_has_no_header_of_them() {
        let token = token(&json!({"sub": "u-1", "exp": 200}));
        let answer = verified(Some(&format!("Bearer {token}"))).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert!(!answer.headers().contains_key("x-user-roles"));
    }

    #[tokio::test]
    async fn everybody_else_is_nobody_and_learns_nothing_more() {
        let late = format!("Bearer {}", token(&json!({"sub": "u-1", "exp": 100})));
        let basic = "Basic dTpw";
        for authorization in [None, Some(""), Some("Bearer"), Some("Bearer x"), Some(basic), Some(&late)] {
            let answer = verified(authorization).await;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{authorization:?}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            assert!(!answer.headers().contains_key("x-user-id"));
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["error"]["code"], "unauthenticated");
        }
    }

    #[tokio::test]
    async fn a_service_asks_about_a_token() {
        let ask = async |token: String| {
            let request = Request::post("/internal/auth/validate")
                .header("content-type", "application/json")
                .body(Body::from(json!({ "token": token }).to_string()))
                .unwrap();
            let body = served().oneshot(request).await.unwrap().into_body().collect().await.unwrap();
            serde_json::from_slice::<Value>(&body.to_bytes()).unwrap()
        };
        let good = token(&json!({"sub": "u-1", "roles": ["admin"], "exp": 200}));
        let known = json!({"valid": true, "user_id": "u-1", "roles": ["admin"], "expires_at": 200});
        assert_eq!(ask(good).await, known);
        assert_eq!(ask("x".into()).await, json!({"valid": false}));
    }

    #[test]
    fn production_has_a_key_of_its_own_and_no_message_shows_one() {
        let built = |pairs: [(&str, &str); 3]| {
            let settings = Settings::fixed(pairs);
            let config = Config::read(&BLUEPRINT, &settings).unwrap();
            build(&config, &settings)
                .map(|service| service.stand_ins.len())
                .map_err(|error| error.to_string())
        };
        let with = |environment, secret| {
            built([("ENVIRONMENT", environment), ("DATA_DIR", "memory"), ("JWT_SECRET", secret)])
        };
        assert_eq!(with("development", ""), Ok(1));
        let good = "0123456789abcdef0123456789abcdef";
        assert_eq!((with("development", good), with("production", good)), (Ok(0), Ok(0)));
        for (secret, hint) in
            [("", "JWT_SECRET is not set"), ("short-one", "32 bytes"), (DEVELOPMENT_KEY, "everybody")]
        {
            let message = with("production", secret).unwrap_err();
            assert!(message.contains(hint) && !message.contains("short-one"), "{message}");
        }
    }
}
