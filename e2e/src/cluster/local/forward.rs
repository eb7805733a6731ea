//! Connections from the host into the cluster's network namespace, which has no way in or out.
//!
//! The node listens on a unix socket, which file systems carry across network namespaces. The host
//! side connects to it, writes `IP:PORT` and a newline, and from then on the two ends are joined.
//! I/O: sockets.

use crate::cluster::cmd::{Doing as _, Fault};
use std::{io, net::SocketAddr, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

/// Inside: joins each connection on the socket to the address that it asks for. Never returns in
/// health.
pub(crate) async fn serve(socket: PathBuf) -> Result<(), Fault> {
    let listener = UnixListener::bind(&socket).doing_at("listen on", &socket)?;
    loop {
        let (stream, _) = listener.accept().await.doing("accept a connection to forward")?;
        // A connection that fails ends like a refused one: closed. There is nobody else to tell.
        tokio::spawn(join_inside(stream));
    }
}

async fn join_inside(stream: UnixStream) -> io::Result<()> {
    let mut outside = BufStream::new(stream);
    let mut line = String::new();
    outside.read_line(&mut line).await?;
    let target: SocketAddr = line.trim().parse().map_err(io::Error::other)?;
    let mut inside = TcpStream::connect(target).await?;
    inside.set_nodelay(true)?;
    copy_bidirectional(&mut outside, &mut inside).await?;
    Ok(())
}

/// Outside: joins each connection on `listener` to `target` inside. Never returns in health.
pub(crate) async fn publish(listener: TcpListener, socket: PathBuf, target: SocketAddr) -> Result<(), Fault> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(join_outside(stream, socket.clone(), target))),
            // Out of file descriptors for a moment, or the client went away: the next may be fine.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn join_outside(mut client: TcpStream, socket: PathBuf, target: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut inside = UnixStream::connect(socket).await?;
    inside.write_all(format!("{target}\n").as_bytes()).await?;
    copy_bidirectional(&mut client, &mut inside).await?;
    Ok(())
}

/// The process id, as seen here, of the node that serves the socket: by it one enters its
/// namespaces. Never stale, since the kernel tells it of a live connection.
pub(crate) async fn node_pid(socket: PathBuf) -> Result<i32, Fault> {
    let stream = UnixStream::connect(&socket).await.doing_at("connect to", &socket)?;
    let pid = stream.peer_cred().doing("ask who listens")?.pid();
    pid.ok_or_else(|| io::Error::other("the kernel does not say")).doing("ask who listens")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn bytes_and_ends_of_stream_pass_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        tokio::spawn(serve(socket.clone()));
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = outside.local_addr().unwrap();
        tokio::spawn(publish(outside, socket.clone(), echo.local_addr().unwrap()));
        tokio::spawn(async move {
            let (mut stream, _) = echo.accept().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(&all).await.unwrap();
        });

        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"stone").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "stone");
        assert_eq!(node_pid(socket).await.unwrap(), std::process::id() as i32);
    }
}
