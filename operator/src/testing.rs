//! An API server that answers by a script, for what a real one cannot be made to do on purpose.

use crate::{
    args::Settings,
    context::Context,
    edges::Edges,
    run::{Clients, context},
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// One request that was made.
#[derive(Debug)]
pub struct Call {
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Empty for requests without one.
    pub body: Value,
}

/// A context whose API server gives these answers in order and hangs on any further request. The handle gives the
/// requests that were made, once the context is dropped.
pub fn scripted(answers: Vec<(StatusCode, Value)>) -> (Context, JoinHandle<Vec<Call>>) {
    let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let served = tokio::spawn(async move {
        let (mut calls, mut answers) = (Vec::new(), answers.into_iter());
        let mut hanging = Vec::new();
        while let Some((request, answer)) = server.next_request().await {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
            calls.push(Call { method: parts.method, path: parts.uri.to_string(), body });
            match answers.next() {
                Some((status, value)) => {
                    let body = Body::from(value.to_string().into_bytes());
                    answer.send_response(Response::builder().status(status).body(body).unwrap());
                }
                None => hanging.push(answer),
            }
        }
        calls
    });
    let client = Client::new(service, "default");
    let clients = Clients { client: client.clone(), urgent: client.clone(), lease: client };
    (context(clients, Settings::default(), Edges::new().0), served)
}

/// The body of a refusal.
pub fn refusal(status: StatusCode, reason: &str) -> (StatusCode, Value) {
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": status.as_u16(), "reason": reason, "message": reason,
    });
    (status, body)
}
