//! Keeps an HTTP/1.1 client from looking at its connection between two requests. Does no I/O itself.
//!
//! hyper reads from an idle connection whenever it is polled, also right before it writes a request and
//! right after it has read an answer. A client that does not look must notice nothing there, or closing
//! races would be hidden. Hence two rules:
//!
//! 1. Between an answer and the first byte of the next request, reads wait.
//! 2. An end of the stream is withheld until the answer turns out to be incomplete without it: an end
//!    that comes together with the last byte of an answer was not looked for.
//!
//! Whether a client looks is decided in one place only, by [`super::wire::Probe`].

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream that hyper gets.
pub(super) struct Gate<T> {
    inner: T,
    shutter: Shutter,
}

/// The client's handle on a [`Gate`]; both live in one task, so the lock is never contended.
#[derive(Clone, Default)]
pub(super) struct Shutter(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: bool,
    reader: Option<Waker>,
    end: End,
}

#[derive(Default)]
enum End {
    #[default]
    NotSeen,
    Withheld(io::Result<()>),
    Released(io::Result<()>),
    Delivered,
}

impl<T> Gate<T> {
    pub(super) fn new(inner: T) -> (Self, Shutter) {
        let shutter = Shutter::default();
        (Gate { inner, shutter: shutter.clone() }, shutter)
    }
}

impl Shutter {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer is complete: no reads until the next request is written.
    pub(super) fn close(&self) {
        self.lock().open = false;
    }

    /// The answer can't be completed from what was read: let a withheld end through. True when there
    /// was one, so that the connection must be polled again.
    pub(super) fn release(&self) -> bool {
        let mut state = self.lock();
        match std::mem::take(&mut state.end) {
            End::Withheld(end) => {
                state.end = End::Released(end);
                true
            }
            other => {
                state.end = other;
                false
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gate<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let shutter = self.shutter.clone();
        let mut state = shutter.lock();
        if !state.open {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match std::mem::take(&mut state.end) {
            End::NotSeen => {}
            End::Released(end) => {
                state.end = End::Delivered;
                return Poll::Ready(end);
            }
            End::Delivered => {
                state.end = End::Delivered;
                return Poll::Ready(Ok(()));
            }
            withheld @ End::Withheld(_) => {
                state.end = withheld;
                return Poll::Pending;
            }
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() > before => Poll::Ready(Ok(())),
            Poll::Ready(end) => {
                state.end = End::Withheld(end);
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gate<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if matches!(written, Poll::Ready(Ok(_))) {
            let mut state = self.shutter.lock();
            state.open = true;
            if let Some(reader) = state.reader.take() {
                reader.wake();
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
