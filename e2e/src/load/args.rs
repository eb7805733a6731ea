//! Options of `e2e load` and their bounds. Resolves the target's name, otherwise pure.

use super::Error;
use super::engine::{Config, MAX_REQUESTS, Pace};
use super::header::HeaderFile;
use super::record::Mode;
use super::tls::Tls;
use super::workload::PathSpec;
use bytes::Bytes;
use http::uri::{Authority, Scheme, Uri};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const MAX_DURATION: Duration = Duration::from_secs(6 * 3600);
const MAX_CLIENTS: usize = 10_000;
const MAX_KEYS: u32 = 1_000_000;

/// Arguments of `e2e load`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Where to send requests, as in http://edge:8080 or https://edge (the name is resolved once, at the start).
    #[arg(long, value_name = "http[s]://HOST:PORT")]
    target: Target,

    /// With https: the certificates to trust, in PEM. The target must show one of theirs for its host.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Host header, and the name to ask for over TLS, when it differs from the target.
    #[arg(long, value_name = "NAME")]
    host: Option<Authority>,

    /// A request: `/path`, or `METHOD /path`. Repeat for several; clients go through them in turn.
    #[arg(long = "path", value_name = "[METHOD ]/PATH", default_value = "/")]
    paths: Vec<PathSpec>,

    /// Body of POST, PUT and PATCH requests, sent as application/json.
    #[arg(long, default_value = "")]
    body: String,

    /// A further header of every request, its value read from a file for each: a token that is replaced
    /// meanwhile. Repeat for several.
    #[arg(long = "header-from-file", value_name = "NAME=PATH")]
    header_files: Vec<HeaderFile>,

    /// Number of clients for each --mode that names no number of its own. A client has one connection
    /// and sends one request at a time.
    #[arg(long, default_value_t = 10)]
    clients: usize,

    /// How clients use connections: keepalive, fresh (a new one for each request) or http2, with the
    /// number of such clients. Repeat to mix.
    #[arg(long = "mode", value_name = "MODE[=CLIENTS]", default_value = "keepalive")]
    modes: Vec<ModeShare>,

    /// Requests per second over all clients, however slow answers are. 0: each client sends its next
    /// request --think after an answer.
    #[arg(long, default_value_t = 0)]
    rate: u32,

    /// Wait between an answer and the same client's next request; only without --rate.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    think: Duration,

    /// Number of distinct cohort keys, sent as `Cookie: stomaton_id=KEY`. Each client has its own.
    #[arg(long, default_value_t = 100)]
    keys: u32,

    /// Decides the cohort keys: equal seeds, equal keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How long to send, at most 6h.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    duration: Duration,

    /// End after this many requests, at most 5,000,000.
    #[arg(long, default_value_t = MAX_REQUESTS)]
    requests: u32,

    /// One-way delay between client and target, both ways, closing included.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    delay: Duration,

    /// Keep-alive clients look whether a connection was closed before they use it again (the default).
    #[arg(long, overrides_with = "no_check_eof")]
    check_eof: bool,

    /// Keep-alive clients do not look.
    #[arg(long, overrides_with = "check_eof")]
    no_check_eof: bool,

    /// How long a connect may take, and how long an answer, before the request counts as lost.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,

    /// Serve /summary, /records?from=N, /stream, POST /stop and POST /exit here.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<SocketAddr>,

    /// With --listen: how long to stay after the load has ended, so that results can be fetched.
    /// POST /exit ends it sooner.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub(super) linger: Duration,
}

impl Args {
    /// Options as they stand after `e2e load`.
    pub fn of<'a>(options: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            load: Args,
        }
        let words = std::iter::once("load").chain(options);
        <Cli as clap::Parser>::try_parse_from(words).map(|cli| cli.load)
    }

    /// Checks the bounds and resolves the target.
    pub async fn config(&self) -> Result<Config, Error> {
        let clients = self.checked_clients()?;
        let scheduled = u128::from(self.rate) * self.duration.as_millis() / 1000;
        let refuse = |bad: bool, message: String| {
            if bad { Err(Error::Options(message)) } else { Ok(()) }
        };
        refuse(self.paths.len() > usize::from(u16::MAX), "--path: too many paths".into())?;
        refuse(
            !(1..=MAX_KEYS).contains(&self.keys),
            format!("--keys must be 1 to {MAX_KEYS}, not {}", self.keys),
        )?;
        refuse(
            !(1..=MAX_REQUESTS).contains(&self.requests),
            format!("--requests must be 1 to {MAX_REQUESTS}, not {}", self.requests),
        )?;
        refuse(
            self.duration.is_zero() || self.duration > MAX_DURATION,
            format!("--duration must be above 0 and at most 6h, not {:?}", self.duration),
        )?;
        refuse(
            self.requests == MAX_REQUESTS && scheduled > u128::from(MAX_REQUESTS),
            format!(
                "--rate {} for {:?} is more than {MAX_REQUESTS} requests: shorten it, or say --requests",
                self.rate, self.duration
            ),
        )?;
        refuse(
            self.rate > 0 && !self.think.is_zero(),
            "--think has no meaning with --rate: leave one of them out".into(),
        )?;
        refuse(self.timeout.is_zero(), "--timeout must be above 0".into())?;
        let pace = match self.rate {
            0 => Pace::Closed { think: self.think },
            rate => Pace::Open { rate },
        };
        let authority = self.host.clone().unwrap_or_else(|| self.target.authority.clone());
        let tls = self.tls(authority.host())?;
        Ok(Config {
            address: self.target.resolve().await?,
            tls,
            authority,
            paths: self.paths.clone(),
            body: Bytes::from(self.body.clone()),
            header_files: self.header_files.clone(),
            clients,
            pace,
            keys: self.keys,
            seed: self.seed,
            duration: self.duration,
            requests: self.requests,
            delay: self.delay,
            check_eof: !self.no_check_eof,
            timeout: self.timeout,
        })
    }

    fn tls(&self, host: &str) -> Result<Option<Tls>, Error> {
        match (&self.ca, self.target.is_https) {
            (None, false) => Ok(None),
            (Some(authority), true) => Tls::new(authority, host).map(Some),
            (None, true) => Err(Error::Options("https needs --ca: whom to trust".into())),
            (Some(_), false) => Err(Error::Options("--ca has no meaning without https".into())),
        }
    }

    fn checked_clients(&self) -> Result<Vec<Mode>, Error> {
        let count = |share: &ModeShare| share.clients.unwrap_or(self.clients);
        let total = self.modes.iter().map(count).fold(0, usize::saturating_add);
        if !(1..=MAX_CLIENTS).contains(&total) {
            let message = format!("--clients and --mode make {total} clients; 1 to {MAX_CLIENTS} can run");
            return Err(Error::Options(message));
        }
        Ok(self.modes.iter().flat_map(|share| std::iter::repeat_n(share.mode, count(share))).collect())
    }
}

/// Host and port of the target, and how it is spoken to.
#[derive(Clone, Debug)]
struct Target {
    authority: Authority,
    is_https: bool,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|e| format!("{e}; write it as http://HOST:PORT"))?;
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        match (is_https || uri.scheme() == Some(&Scheme::HTTP), uri.authority(), uri.path()) {
            (true, Some(authority), "/" | "") => Ok(Target { authority: authority.clone(), is_https }),
            (true, _, _) => Err("give the path with --path, here only http://HOST:PORT".into()),
            (false, _, _) => Err("only http and https are spoken; write it as http://HOST:PORT".into()),
        }
    }
}

impl Target {
    async fn resolve(&self) -> Result<SocketAddr, Error> {
        let port = self.authority.port_u16().unwrap_or(if self.is_https { 443 } else { 80 });
        let host = self.authority.host();
        let failed = |reason: String| Error::Resolve { target: format!("{host}:{port}"), reason };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut found = tokio::net::lookup_host((host, port)).await.map_err(|e| failed(e.to_string()))?;
        found.next().ok_or_else(|| failed("no address".into()))
    }
}

/// `keepalive`, or `keepalive=10`.
#[derive(Clone, Copy, Debug)]
struct ModeShare {
    mode: Mode,
    clients: Option<usize>,
}

impl FromStr for ModeShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, clients) = match text.split_once('=') {
            Some((name, n)) => (name, Some(n.parse().map_err(|_| format!("`{n}` is no number of clients"))?)),
            None => (text, None),
        };
        let mode = match name {
            "keepalive" => Mode::Keepalive,
            "fresh" => Mode::Fresh,
            "http2" => Mode::Http2,
            _ => return Err(format!("`{name}` is not one of keepalive, fresh, http2")),
        };
        Ok(ModeShare { mode, clients })
    }
}

/// `250ms`, `10s`, `1m 30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration =
        text.parse().map_err(|e| format!("{e}; write it as 250ms, 10s or 5m"))?;
    Duration::try_from(parsed).map_err(|_| "must not be negative".to_owned())
}
