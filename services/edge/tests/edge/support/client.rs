//! A client that keeps its connection and never retries: every lost request is seen. Libraries retry and hide it.

use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What carries HTTP.
pub trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

pub struct Client {
    /// Where a new connection goes; `None`: there is one only.
    address: Option<SocketAddr>,
    stream: Option<BufReader<Box<dyn Carrier>>>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { address: Some(address), ..Self::over(stream) }
    }

    /// A client on a connection that stands already.
    pub fn over(stream: impl Carrier + 'static) -> Self {
        Self { address: None, stream: Some(BufReader::new(Box::new(stream))) }
    }

    /// One request on the connection. Only when the answer before asked for it is a new one opened.
    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
        if self.stream.is_none() {
            *self = Self::connect(self.address.expect("the one connection was closed")).await;
        }
        let stream = self.stream.as_mut().unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("host: edge.test\r\n");
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        stream.get_mut().write_all(head.as_bytes()).await?;
        let answer = read(stream).await?;
        if answer.header("connection") == Some("close") {
            self.stream = None;
        }
        Ok(answer)
    }
}

async fn read(stream: &mut BufReader<Box<dyn Carrier>>) -> io::Result<Answer> {
    let status_line = line(stream).await?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| io::Error::other(format!("not a status line: {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let header = line(stream).await?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    if answer.header("transfer-encoding") == Some("chunked") {
        loop {
            let size = usize::from_str_radix(&line(stream).await?, 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await?;
            answer.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else {
        let length = answer.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
        answer.body = vec![0; length];
        stream.read_exact(&mut answer.body).await?;
    }
    Ok(answer)
}

async fn line(stream: &mut BufReader<Box<dyn Carrier>>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What a backend got in a header, as it tells in its answer; `None`: nothing.
    pub fn told(&self, header: &str) -> Option<String> {
        let text = self.text();
        let mut lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(name, _)| *name == header).map(|(_, value)| value.to_owned())
    }

    /// First line of the body: the name of the backend.
    pub fn backend(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }

    /// A field of the edge's diagnostic header.
    pub fn edge(&self, field: &str) -> String {
        let header = self.header("x-stomaton-edge").unwrap_or_default();
        let fields = header.split(';').filter_map(|pair| pair.split_once('='));
        fields.into_iter().find(|(name, _)| *name == field).map(|(_, v)| v.to_owned()).unwrap_or_default()
    }
}
