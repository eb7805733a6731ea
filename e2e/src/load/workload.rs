//! What each client sends, in which order: paths, cohort keys, request identifiers. Pure.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri};
use http_body_util::Full;

use super::record::Mode;

/// One kind of request: `/path`, or `METHOD /path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSpec {
    /// GET unless the specification names another.
    pub method: Method,
    /// The path with its query.
    pub path: PathAndQuery,
}

impl std::str::FromStr for PathSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (method, path) = match text.trim().split_once(' ') {
            Some((method, path)) => (method, path.trim_start()),
            None => ("GET", text.trim()),
        };
        if !path.starts_with('/') {
            return Err(format!("`{path}` must begin with `/`, as in `/a` or `POST /a`"));
        }
        Ok(PathSpec {
            method: method.parse().map_err(|_| format!("`{method}` is no HTTP method"))?,
            path: path.parse().map_err(|e| format!("`{path}` is no path: {e}"))?,
        })
    }
}

/// What a client sends as its n-th request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) path: u16,
    pub(super) key: u32,
}

/// The order in which one client goes through its keys and the paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rota {
    pub(super) client: u32,
    pub(super) clients: u32,
    pub(super) keys: u32,
    pub(super) paths: u16,
}

impl Rota {
    /// The n-th turn: every path with one key, then with the next. Keys are dealt out like cards, so
    /// no two clients share one unless there are more clients than keys.
    pub(super) fn turn(&self, n: u64) -> Turn {
        let own = if self.client < self.keys { (self.keys - self.client).div_ceil(self.clients) } else { 1 };
        let round = (n / u64::from(self.paths)) % u64::from(own);
        Turn {
            path: (n % u64::from(self.paths)) as u16,
            key: (self.client + round as u32 * self.clients) % self.keys,
        }
    }
}

/// The cohort key of an index: 16 hexadecimal digits, the same for the same seed.
pub fn cohort_key(seed: u64, index: u32) -> String {
    format!("{:016x}", splitmix(seed ^ splitmix(u64::from(index))))
}

/// SplitMix64: one step, a bijection, so distinct indices give distinct keys.
fn splitmix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Everything about requests that does not change during a load.
#[derive(Debug)]
pub(super) struct Workload {
    scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) host: HeaderValue,
    pub(super) paths: Vec<PathSpec>,
    pub(super) body: Bytes,
    cookies: Vec<HeaderValue>,
}

impl Workload {
    pub(super) fn new(
        scheme: Scheme,
        authority: Authority,
        paths: Vec<PathSpec>,
        body: Bytes,
        keys: u32,
        seed: u64,
    ) -> Self {
        let cookie = |index| {
            // Hexadecimal digits are always a valid header.
            HeaderValue::try_from(format!("stomaton_id={}", cohort_key(seed, index)))
                .unwrap_or(HeaderValue::from_static("stomaton_id=0"))
        };
        let host = HeaderValue::from_str(authority.as_str()).unwrap_or(HeaderValue::from_static("localhost"));
        Workload { scheme, authority, host, paths, body, cookies: (0..keys).map(cookie).collect() }
    }

    pub(super) fn request(&self, mode: Mode, client: u16, seq: u32, turn: Turn) -> Request<Full<Bytes>> {
        let spec = &self.paths[usize::from(turn.path)];
        let with_body = matches!(spec.method, Method::POST | Method::PUT | Method::PATCH);
        let body = if with_body { self.body.clone() } else { Bytes::new() };
        let has_body = !body.is_empty();

        let mut request = Request::new(Full::new(body));
        *request.method_mut() = spec.method.clone();
        *request.uri_mut() = self.uri(mode, &spec.path);
        let headers = request.headers_mut();
        headers.insert(COOKIE, self.cookies[turn.key as usize].clone());
        if let Ok(id) = HeaderValue::try_from(format!("{client}-{seq}")) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if mode != Mode::Http2 {
            headers.insert(HOST, self.host.clone());
        }
        if mode == Mode::Fresh {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        request
    }

    /// HTTP/1.1 wants the path alone; HTTP/2 takes `:scheme` and `:authority` from a full URI.
    fn uri(&self, mode: Mode, path: &PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(path.clone());
        if mode == Mode::Http2 {
            parts.scheme = Some(self.scheme.clone());
            parts.authority = Some(self.authority.clone());
        }
        Uri::from_parts(parts).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn path_specifications() {
        let spec: PathSpec = "POST /x?y=1".parse().unwrap();
        assert_eq!((spec.method.as_str(), spec.path.as_str()), ("POST", "/x?y=1"));
        assert_eq!("/a".parse::<PathSpec>().unwrap().method, Method::GET);
        for bad in ["a", "POST", "G@T /a", "GET a", ""] {
            assert!(bad.parse::<PathSpec>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_key_meets_every_path_and_no_client_takes_anothers(
            clients in 1u32..20, keys in 1u32..60, paths in 1u16..5,
        ) {
            let mut owner: BTreeMap<u32, u32> = BTreeMap::new();
            let mut met = BTreeSet::new();
            for client in 0..clients {
                let rota = Rota { client, clients, keys, paths };
                for n in 0..u64::from(keys) * u64::from(paths) {
                    let turn = rota.turn(n);
                    met.insert((turn.key, turn.path));
                    let first = *owner.entry(turn.key).or_insert(client);
                    prop_assert!(first == client || clients > keys);
                }
            }
            prop_assert_eq!(met.len() as u32, keys * u32::from(paths));
        }

        #[test]
        fn keys_are_distinct(seed: u64) {
            let keys: BTreeSet<_> = (0..500).map(|i| cohort_key(seed, i)).collect();
            prop_assert_eq!(keys.len(), 500);
        }
    }
}
