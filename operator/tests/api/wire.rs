//! The wire between an operator and the API server: counts its writes, and can be cut, at once or at a certain write.

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tokio::sync::Notify;
use tower::{Layer, Service};

/// Where a wire is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Before this write, counted from 1, is sent.
    Before(usize),
    /// After this write is answered, before the operator hears of it.
    After(usize),
}

/// A wire. Every client that was made with it is on it.
#[derive(Clone, Default)]
pub struct Wire(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    was_cut: Notify,
    was_refused: Notify,
}

#[derive(Default)]
struct State {
    cut_at: Option<Cut>,
    is_cut: bool,
    writes: Vec<String>,
    refused: Vec<String>,
}

impl Wire {
    /// A wire that will be cut there.
    pub fn with(cut: Cut) -> Self {
        let wire = Self::default();
        wire.0.state.lock().unwrap().cut_at = Some(cut);
        wire
    }

    /// Cuts it: nothing is sent any more, and no answer arrives.
    pub fn cut(&self) {
        self.0.state.lock().unwrap().is_cut = true;
        self.0.was_cut.notify_one();
    }

    /// Resolves when it is cut.
    pub async fn is_cut(&self) {
        self.0.was_cut.notified().await;
    }

    /// Whether it is cut.
    pub fn has_been_cut(&self) -> bool {
        self.0.state.lock().unwrap().is_cut
    }

    /// The writes that were sent, as method and path.
    pub fn writes(&self) -> Vec<String> {
        self.0.state.lock().unwrap().writes.clone()
    }

    /// Resolves when a request was refused for want of a right, and gives it.
    pub async fn is_refused(&self) -> String {
        self.0.was_refused.notified().await;
        self.refused().join(", ")
    }

    /// The requests that were refused for want of a right.
    pub fn refused(&self) -> Vec<String> {
        self.0.state.lock().unwrap().refused.clone()
    }

    fn refuse(&self, request: String) {
        self.0.state.lock().unwrap().refused.push(request);
        self.0.was_refused.notify_one();
    }

    /// Notes a write that is about to be sent and gives its number; none: the wire is cut.
    fn send(&self, write: Option<String>) -> Option<usize> {
        let mut state = self.0.state.lock().unwrap();
        if state.is_cut {
            return None;
        }
        let Some(write) = write else { return Some(0) };
        let number = state.writes.len() + 1;
        if state.cut_at == Some(Cut::Before(number)) {
            drop(state);
            self.cut();
            return None;
        }
        state.writes.push(write);
        Some(number)
    }

    /// Whether the answer to write `number` may pass.
    fn receive(&self, number: usize) -> bool {
        let state = self.0.state.lock().unwrap();
        if number > 0 && state.cut_at == Some(Cut::After(number)) {
            drop(state);
            self.cut();
            return false;
        }
        !state.is_cut
    }
}

impl<S> Layer<S> for Wire {
    type Service = OnWire<S>;

    fn layer(&self, inner: S) -> OnWire<S> {
        OnWire { wire: self.clone(), inner }
    }
}

/// A client's way to the API server, over a wire.
#[derive(Clone)]
pub struct OnWire<S> {
    wire: Wire,
    inner: S,
}

impl<S, A> Service<Request<Body>> for OnWire<S>
where
    S: Service<Request<Body>, Response = Response<A>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    A: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let name = format!("{} {}", request.method(), request.uri().path());
        let write = (request.method() != Method::GET).then(|| name.clone());
        let Some(number) = self.wire.send(write) else { return Box::pin(std::future::pending()) };
        let (wire, answer) = (self.wire.clone(), self.inner.call(request));
        Box::pin(async move {
            let answer = answer.await;
            if answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::FORBIDDEN) {
                wire.refuse(name);
            }
            if wire.receive(number) { answer } else { std::future::pending().await }
        })
    }
}
