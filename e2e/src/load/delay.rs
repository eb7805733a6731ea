//! A TCP connection with a one-way delay in both directions, FIN and RST included. Does I/O.
//!
//! On loopback a closing connection is seen at once, so the race between a server that closes and a
//! client that sends hardly ever happens. Here every chunk, end and reset waits for its time: two tasks
//! relay between the socket and the [`Delayed`] end that the client holds.

use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

/// Chunks under way towards the client; more would only model a longer link.
const IN_FLIGHT: usize = 256;

/// Something that arrives at `due`.
struct Parcel {
    due: Instant,
    load: Load,
}

enum Load {
    Data(Bytes),
    /// FIN, or the error that ended the connection.
    End(Option<io::ErrorKind>),
}

/// The client's end of a delayed connection.
pub(super) struct Delayed {
    delay: Duration,
    inbound: mpsc::Receiver<Parcel>,
    arriving: Option<Parcel>,
    timer: Pin<Box<Sleep>>,
    outbound: mpsc::UnboundedSender<Parcel>,
}

/// When the end of the connection reaches the client, once that is known.
pub(super) type EndsAt = Arc<OnceLock<Instant>>;

impl Delayed {
    /// Relays over a connected socket.
    pub(super) fn over(socket: TcpStream, delay: Duration) -> (Self, EndsAt) {
        let (read, write) = socket.into_split();
        let (to_client, inbound) = mpsc::channel(IN_FLIGHT);
        let (outbound, from_client) = mpsc::unbounded_channel();
        let ends_at = EndsAt::default();
        tokio::spawn(relay_to_client(read, to_client, delay, Arc::clone(&ends_at)));
        tokio::spawn(relay_to_server(write, from_client));
        let timer = Box::pin(sleep_until(Instant::now()));
        (Delayed { delay, inbound, arriving: None, timer, outbound }, ends_at)
    }

    fn post(&self, load: Load) -> io::Result<()> {
        let due = Instant::now() + self.delay;
        self.outbound.send(Parcel { due, load }).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

async fn relay_to_client(
    mut socket: OwnedReadHalf,
    client: mpsc::Sender<Parcel>,
    delay: Duration,
    ends_at: EndsAt,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = socket.read(&mut buffer) => read,
            // The client is gone: let go of the socket too.
            () = client.closed() => return,
        };
        let due = Instant::now() + delay;
        let load = match read {
            Ok(0) => Load::End(None),
            Ok(n) => Load::Data(Bytes::copy_from_slice(&buffer[..n])),
            Err(error) => Load::End(Some(error.kind())),
        };
        let ended = matches!(load, Load::End(_));
        if ended {
            let _ = ends_at.set(due);
        }
        if client.send(Parcel { due, load }).await.is_err() || ended {
            return;
        }
    }
}

async fn relay_to_server(mut socket: OwnedWriteHalf, mut client: mpsc::UnboundedReceiver<Parcel>) {
    while let Some(Parcel { due, load }) = client.recv().await {
        sleep_until(due).await;
        let written = match load {
            Load::Data(bytes) => socket.write_all(&bytes).await,
            Load::End(_) => socket.shutdown().await,
        };
        // The reading half sees the same failure and tells the client after the delay.
        if written.is_err() {
            return;
        }
    }
}

impl Drop for Delayed {
    fn drop(&mut self) {
        // The server sees the close no earlier than it would over the wire.
        let _ = self.post(Load::End(None));
    }
}

impl AsyncRead for Delayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.arriving.is_none() {
            self.arriving = ready!(self.inbound.poll_recv(cx));
            if let Some(parcel) = &self.arriving {
                let due = parcel.due;
                self.timer.as_mut().reset(due);
            }
        }
        if self.arriving.is_none() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.timer.as_mut().poll(cx));
        match &mut self.arriving {
            Some(Parcel { load: Load::Data(bytes), .. }) => {
                let n = bytes.len().min(buf.remaining());
                buf.put_slice(&bytes[..n]);
                bytes.advance(n);
                if bytes.is_empty() {
                    self.arriving = None;
                }
                Poll::Ready(Ok(()))
            }
            Some(Parcel { load: Load::End(Some(kind)), .. }) => Poll::Ready(Err((*kind).into())),
            Some(Parcel { load: Load::End(None), .. }) | None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Delayed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.post(Load::Data(Bytes::copy_from_slice(bytes)))?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = self.post(Load::End(None));
        Poll::Ready(Ok(()))
    }
}
