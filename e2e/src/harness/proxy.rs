//! HTTP to a single pod through the API server's proxy: works on every cluster, whatever its network is.
//! Takes a pod and a request, gives the answer. I/O: talks to the API server.

use super::{Doing as _, Error};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde::de::DeserializeOwned;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// One port of one pod.
#[derive(Clone)]
pub struct PodPort {
    client: Client,
    namespace: String,
    pod: String,
    port: u16,
    header: Option<(HeaderName, HeaderValue)>,
}

impl PodPort {
    /// A port of a pod; nothing is sent yet.
    pub fn new(client: &Client, namespace: &str, pod: &str, port: u16) -> Self {
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            port,
            header: None,
        }
    }

    /// The same port, and every request to it has this header.
    pub fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// The pod's name.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Sends a request, with a JSON body unless that is empty. The answer may have any status: even the API server's
    /// own, when it can't reach the pod, 503.
    pub async fn send(&self, method: Method, path: &str, body: String) -> Result<Response<Bytes>, Error> {
        let Self { client, namespace, pod, port, header } = self;
        let doing = || format!("{method} {path} of pod {namespace}/{pod}");
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
        let mut request = Request::builder()
            .method(method.clone())
            .uri(uri)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body.into_bytes()))
            .map_err(kube::Error::HttpError)
            .doing(doing())?;
        request.headers_mut().extend(header.clone());
        let exchange = async {
            let (head, body) = client.send(request).await?.into_parts();
            Ok::<_, kube::Error>(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        match tokio::time::timeout(LIMIT, exchange).await {
            Ok(answer) => answer.doing(doing()),
            Err(_) => Err(Error::TooLate {
                what: doing(),
                seconds: LIMIT.as_secs(),
                seen: "no answer through the API server".into(),
            }),
        }
    }

    /// The same, and any answer but a success is an error.
    pub async fn ask(&self, method: Method, path: &str, body: String) -> Result<Response<Bytes>, Error> {
        let request = format!("{method} {path} of pod {}/{}", self.namespace, self.pod);
        let answer = self.send(method, path, body).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        Err(Error::Answer { request, status: StatusCode::as_u16(&answer.status()), body })
    }

    /// Reads JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let answer = self.ask(Method::GET, path, String::new()).await?;
        serde_json::from_slice(answer.body())
            .map_err(|source| Error::Unreadable { what: format!("{path} of pod {}", self.pod), source })
    }
}
