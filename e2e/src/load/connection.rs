//! One connection, one request at a time, and the exact reason when an answer does not come. Does I/O.

use super::gate::{Gate, Shutter};
use super::record::{Loss, Mode};
use super::wire::{Probe, Wire};
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::error::Error as StdError;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use tokio::task::JoinHandle;

type Body = Full<Bytes>;
type Driver = Option<Box<http1::Connection<TokioIo<Gate<Wire>>, Body>>>;

/// What became of a request that was handed to a connection.
pub(super) enum Exchange {
    /// A full answer: its status and headers.
    Answer(http::response::Parts),
    /// No full answer.
    Lost(Loss),
    /// Not one byte was written, so the request can still be sent, for the first time.
    Unsent(Box<Request<Body>>),
}

/// A connection that is ready for a request.
pub(super) enum Connection {
    Http1(Http1),
    Http2(Http2),
}

/// HTTP/1.1, driven by hand: the connection is polled only while a request is in flight. A spawned
/// task, as usual with hyper, would look at the connection all the time.
pub(super) struct Http1 {
    sender: http1::SendRequest<Body>,
    driver: Driver,
    shutter: Shutter,
    probe: Probe,
    reusable: bool,
}

/// HTTP/2: the protocol wants an attentive client (pings, settings, GOAWAY), so the connection has a
/// task of its own.
pub(super) struct Http2 {
    sender: http2::SendRequest<Body>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Starts HTTP on a connected wire.
    pub(super) async fn start(mode: Mode, wire: Wire, probe: Probe) -> hyper::Result<Self> {
        if mode == Mode::Http2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await?;
            return Ok(Connection::Http2(Http2 { sender, driver: tokio::spawn(driver) }));
        }
        let (gate, shutter) = Gate::new(wire);
        let (sender, driver) = http1::handshake(TokioIo::new(gate)).await?;
        Ok(Connection::Http1(Http1 {
            sender,
            driver: Some(Box::new(driver)),
            shutter,
            probe,
            reusable: true,
        }))
    }

    /// Whether another request may be sent. An HTTP/1.1 client looks for a closed connection only when
    /// `look` is set; an HTTP/2 client always knows.
    pub(super) fn is_usable(&self, look: bool) -> bool {
        match self {
            Connection::Http1(c) => c.reusable && !(look && c.probe.is_closed()),
            Connection::Http2(c) => !c.sender.is_closed(),
        }
    }

    /// Sends one request and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: Request<Body>) -> Exchange {
        match self {
            Connection::Http1(c) => c.exchange(request).await,
            Connection::Http2(c) => c.exchange(request).await,
        }
    }
}

impl Http1 {
    async fn exchange(&mut self, request: Request<Body>) -> Exchange {
        let Http1 { sender, driver, shutter, reusable, .. } = self;
        if drive(driver, shutter, sender.ready()).await.is_err() {
            return Exchange::Unsent(Box::new(request));
        }
        let answered = drive(driver, shutter, complete(sender.try_send_request(request), Loss::Reset)).await;
        shutter.close();
        if let Exchange::Answer(parts) = &answered {
            *reusable = driver.is_some() && parts.version == Version::HTTP_11 && !says_close(&parts.headers);
        }
        answered
    }
}

impl Http2 {
    async fn exchange(&mut self, request: Request<Body>) -> Exchange {
        if self.sender.ready().await.is_err() {
            return Exchange::Unsent(Box::new(request));
        }
        complete(self.sender.try_send_request(request), Loss::Eof).await
    }
}

/// Polls the connection and the work that depends on it until the work is done.
async fn drive<F: Future>(driver: &mut Driver, shutter: &Shutter, work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|cx| {
        loop {
            // A connection that is done is dropped, which tells the work.
            if driver.as_mut().is_some_and(|d| Pin::new(d).poll(cx).is_ready()) {
                *driver = None;
            }
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            // The connection has handed over all it read and the work still wants more: if the stream
            // has ended, now is the time to say so.
            if !shutter.release() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Waits for the headers, then reads the body to its end.
async fn complete(
    sending: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>>,
    broken_pipe: Loss,
) -> Exchange {
    let response = match sending.await {
        Ok(response) => response,
        Err(mut failed) => {
            return match failed.take_message() {
                Some(request) => Exchange::Unsent(Box::new(request)),
                None => Exchange::Lost(classify(&failed.into_error(), broken_pipe)),
            };
        }
    };
    let (parts, mut body) = response.into_parts();
    while let Some(frame) = body.frame().await {
        if let Err(error) = frame {
            return Exchange::Lost(classify(&error, broken_pipe));
        }
    }
    Exchange::Answer(parts)
}

fn says_close(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("close")))
}

/// The kind of loss, from the most specific cause that hyper kept. `broken_pipe` says what that error
/// means: to TCP, a write after a reset; to h2, any end of the connection in the middle of a stream.
fn classify(error: &hyper::Error, broken_pipe: Loss) -> Loss {
    if error.is_incomplete_message() {
        return Loss::Eof;
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(h2) = current.downcast_ref::<h2::Error>() {
            return classify_h2(h2);
        }
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return classify_io(io.kind(), broken_pipe);
        }
        cause = current.source();
    }
    // What is canceled was dropped together with its connection.
    if error.is_canceled() || error.is_closed() { Loss::Eof } else { Loss::Protocol }
}

fn classify_io(kind: io::ErrorKind, broken_pipe: Loss) -> Loss {
    match kind {
        io::ErrorKind::UnexpectedEof => Loss::Eof,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Loss::Reset,
        io::ErrorKind::BrokenPipe => broken_pipe,
        io::ErrorKind::TimedOut => Loss::Timeout,
        _ => Loss::Protocol,
    }
}

fn classify_h2(error: &h2::Error) -> Loss {
    // h2 gives a remote GOAWAY only to streams above its last stream id (RFC 9113, section 6.8: not
    // processed) and to requests it never sent; a stream that was accepted ends with an I/O error.
    if error.is_go_away() && error.is_remote() {
        return Loss::H2Unprocessed;
    }
    match error.get_io() {
        _ if error.is_reset() => Loss::Reset,
        Some(io) => classify_io(io.kind(), Loss::Eof),
        None => Loss::Protocol,
    }
}
