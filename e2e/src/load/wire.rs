//! Connections as the load sees them: plain or delayed TCP, TLS over either, and a look at whether the
//! other side has closed. Does I/O.

use super::delay::{Delayed, EndsAt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::client::TlsStream;

/// One connection to the target.
pub(super) enum Wire {
    Plain(TcpStream),
    Delayed(Delayed),
    Tls(Box<TlsStream<Wire>>),
}

/// Tells whether a connection was closed by the other side, without touching what it carries.
pub(super) enum Probe {
    Plain(OwnedFd),
    Delayed(EndsAt),
}

/// Connects with TCP_NODELAY; with a delay, the handshake takes its round trip too.
pub(super) async fn connect(address: SocketAddr, delay: Duration) -> io::Result<(Wire, Probe)> {
    if !delay.is_zero() {
        sleep(delay).await;
    }
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    if delay.is_zero() {
        let probe = Probe::Plain(socket.as_fd().try_clone_to_owned()?);
        return Ok((Wire::Plain(socket), probe));
    }
    sleep(delay).await;
    let (delayed, ends_at) = Delayed::over(socket, delay);
    Ok((Wire::Delayed(delayed), Probe::Delayed(ends_at)))
}

impl Probe {
    /// The look that a connection pool takes before it uses a connection again: a system call, because
    /// the runtime may not have heard yet of an end that the kernel already has.
    pub(super) fn is_closed(&self) -> bool {
        use rustix::net::{RecvFlags, recv};
        match self {
            Probe::Plain(socket) => {
                let mut byte = [0; 1];
                let looked = recv(socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
                // Bytes on an idle connection (a 408, the alert that ends TLS) make it as unusable as its end does.
                !matches!(looked, Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR))
            }
            Probe::Delayed(ends_at) => ends_at.get().is_some_and(|due| *due <= Instant::now()),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Wire::Delayed(delayed) => Pin::new(delayed).poll_read(cx, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Wire::Delayed(delayed) => Pin::new(delayed).poll_write(cx, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Wire::Delayed(delayed) => Pin::new(delayed).poll_flush(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Wire::Delayed(delayed) => Pin::new(delayed).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
