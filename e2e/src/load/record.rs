//! One record per request, and its line of NDJSON. Pure.
//!
//! A load keeps up to [`crate::load::MAX_REQUESTS`] records in memory, so a record is 48 bytes: what
//! differs per request is a number, and the few strings an edge repeats are shared as an [`Origin`].

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stomaton_crds::keys::AUDIENCE_PUBLIC;

/// How a client uses its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// HTTP/1.1, one connection that is used again and again.
    Keepalive,
    /// HTTP/1.1, a new connection for every request.
    Fresh,
    /// HTTP/2 with prior knowledge, one connection, one stream at a time.
    Http2,
}

/// Why there is no full answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// No connection could be made.
    Connect,
    /// The connection (or HTTP/2 stream) was reset.
    Reset,
    /// The connection ended before the answer did.
    Eof,
    /// No full answer within the timeout.
    Timeout,
    /// TLS: the handshake failed, for want of a certificate or because the host's was another one.
    Tls,
    /// What came back was no HTTP.
    Protocol,
    /// HTTP/2: a GOAWAY said that this stream was not processed, so a client may send it again
    /// safely. Counted apart, never as lost.
    H2Unprocessed,
}

/// The side of a route that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The service that the route is moving to.
    Service,
    /// The monolith that the route is moving from.
    Monolith,
}

/// Who answered, as far as the answer's headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `route=` of `X-Stomaton-Edge`.
    pub route: Option<String>,
    /// `side=` of `X-Stomaton-Edge`.
    pub side: Option<Side>,
    /// `audience=` of `X-Stomaton-Edge`; an edge without audiences does not say it.
    pub audience: Option<String>,
    /// `pod=` of `X-Stomaton-Edge`.
    pub pod: Option<String>,
    /// `X-Served-By`.
    pub served_by: Option<String>,
    /// TLS: fingerprint of the certificate, see [`super::tls::fingerprint`].
    pub certificate: Option<String>,
}

/// One request and what became of it. Serialized as one flat JSON object; absent parts are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Line", into = "Line")]
pub struct Record {
    /// Just before the request was written (or the failed connect began), in microseconds since the
    /// Unix epoch.
    pub sent_micros: u64,
    /// When the answer was complete, or the loss was noticed; same clock.
    pub received_micros: u64,
    /// Who answered; the same allocation for all answers that say the same.
    pub origin: Arc<Origin>,
    /// Index of the cohort key.
    pub key: u32,
    /// Number of the request within the load; with `client` it makes up its `X-Request-Id`.
    pub seq: u32,
    /// Index of the client that sent it.
    pub client: u16,
    /// Index into the paths of the load.
    pub path: u16,
    /// Status of the answer; 0 when there was no full answer.
    pub status: u16,
    /// `bucket=` of `X-Stomaton-Edge`, 0 to 999.
    pub bucket: Option<u16>,
    /// How the client uses its connections.
    pub mode: Mode,
    /// Why there was no full answer; `None` exactly when `status` is not 0.
    pub loss: Option<Loss>,
}

impl Record {
    /// The side that answered, when the edge said so.
    pub fn side(&self) -> Option<Side> {
        self.origin.side
    }

    /// The route that the edge matched, when it said so.
    pub fn route(&self) -> Option<&str> {
        self.origin.route.as_deref()
    }

    /// The audience that the edge took the client for, unless that is everybody.
    pub fn audience(&self) -> Option<&str> {
        self.origin.audience.as_deref().filter(|audience| *audience != AUDIENCE_PUBLIC)
    }

    /// The edge pod that decided, when it said so.
    pub fn pod(&self) -> Option<&str> {
        self.origin.pod.as_deref()
    }

    /// The certificate of the connection, by its fingerprint, when it was one of TLS.
    pub fn certificate(&self) -> Option<&str> {
        self.origin.certificate.as_deref()
    }

    /// From the first byte written to the last byte read, in microseconds.
    pub fn latency_micros(&self) -> u64 {
        self.received_micros.saturating_sub(self.sent_micros)
    }

    /// The record as a line of JSON, without the newline.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Record::to_line`] wrote.
    pub fn from_line(line: &str) -> Result<Record, serde_json::Error> {
        serde_json::from_str(line)
    }
}

/// What an edge says in `X-Stomaton-Edge: route=<id>;side=<service|monolith>;bucket=<0..999>;pod=<name>`, with
/// `;audience=<name>` where it knows audiences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeHeader<'a> {
    /// Identifier of the matched route.
    pub route: Option<&'a str>,
    /// The side the edge chose.
    pub side: Option<Side>,
    /// The bucket that the cohort key fell into.
    pub bucket: Option<u16>,
    /// Name of the edge pod.
    pub pod: Option<&'a str>,
    /// The audience that it took the client for.
    pub audience: Option<&'a str>,
}

impl<'a> EdgeHeader<'a> {
    /// Reads the header's value. Every part is optional, in any order; a part that makes no sense
    /// counts as absent, since the load must go on whatever the edge says.
    pub fn parse(value: &'a str) -> Self {
        let mut header = EdgeHeader::default();
        for (name, value) in value.split(';').filter_map(|part| part.trim().split_once('=')) {
            match name {
                "route" => header.route = Some(value).filter(|v| !v.is_empty()),
                "pod" => header.pod = Some(value).filter(|v| !v.is_empty()),
                "audience" => header.audience = Some(value).filter(|v| !v.is_empty()),
                "bucket" => header.bucket = value.parse().ok().filter(|b| *b < 1000),
                "side" => {
                    header.side = match value {
                        "service" => Some(Side::Service),
                        "monolith" => Some(Side::Monolith),
                        _ => None,
                    }
                }
                _ => {}
            }
        }
        header
    }
}

/// Shares equal origins. An edge fleet has few of them, so a search through a short list is enough.
#[derive(Debug, Default)]
pub struct Origins(Vec<Arc<Origin>>);

impl Origins {
    /// A server that makes up a new name for each answer must not fill the memory.
    const MAX: usize = 1024;

    /// The origin that these headers and this certificate describe, without an allocation when it is known.
    pub fn share(
        &mut self,
        edge: &EdgeHeader<'_>,
        served_by: Option<&str>,
        certificate: Option<&str>,
    ) -> Arc<Origin> {
        let known = self.0.iter().find(|o| {
            o.route.as_deref() == edge.route
                && o.side == edge.side
                && o.audience.as_deref() == edge.audience
                && o.pod.as_deref() == edge.pod
                && o.served_by.as_deref() == served_by
                && o.certificate.as_deref() == certificate
        });
        if let Some(origin) = known {
            return Arc::clone(origin);
        }
        if self.0.len() >= Self::MAX {
            self.0.clear();
        }
        let origin = Arc::new(Origin {
            route: edge.route.map(str::to_owned),
            side: edge.side,
            audience: edge.audience.map(str::to_owned),
            pod: edge.pod.map(str::to_owned),
            served_by: served_by.map(str::to_owned),
            certificate: certificate.map(str::to_owned),
        });
        self.0.push(Arc::clone(&origin));
        origin
    }
}

/// A record as it looks on the wire.
#[derive(Serialize, Deserialize)]
struct Line {
    sent: u64,
    received: u64,
    mode: Mode,
    client: u16,
    seq: u32,
    key: u32,
    path: u16,
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss: Option<Loss>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    side: Option<Side>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bucket: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    served_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
}

impl From<Record> for Line {
    fn from(r: Record) -> Self {
        let origin = Arc::unwrap_or_clone(r.origin);
        Line {
            sent: r.sent_micros,
            received: r.received_micros,
            mode: r.mode,
            client: r.client,
            seq: r.seq,
            key: r.key,
            path: r.path,
            status: r.status,
            loss: r.loss,
            route: origin.route,
            side: origin.side,
            audience: origin.audience,
            bucket: r.bucket,
            pod: origin.pod,
            served_by: origin.served_by,
            certificate: origin.certificate,
        }
    }
}

impl From<Line> for Record {
    fn from(l: Line) -> Self {
        Record {
            sent_micros: l.sent,
            received_micros: l.received,
            origin: Arc::new(Origin {
                route: l.route,
                side: l.side,
                audience: l.audience,
                pod: l.pod,
                served_by: l.served_by,
                certificate: l.certificate,
            }),
            key: l.key,
            seq: l.seq,
            client: l.client,
            path: l.path,
            status: l.status,
            bucket: l.bucket,
            mode: l.mode,
            loss: l.loss,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stays_small() {
        assert_eq!(std::mem::size_of::<Record>(), 48);
    }

    #[test]
    fn edge_header_parts_are_optional_and_nonsense_is_absent() {
        let full = EdgeHeader::parse("route=r-1;side=service;bucket=999;pod=edge-0;audience=internal");
        assert_eq!(
            full,
            EdgeHeader {
                route: Some("r-1"),
                side: Some(Side::Service),
                bucket: Some(999),
                pod: Some("edge-0"),
                audience: Some("internal"),
            }
        );
        assert_eq!(EdgeHeader::parse(" pod=p ; side=monolith").side, Some(Side::Monolith));
        for nonsense in ["", ";;", "bucket=1000", "bucket=-1", "side=both", "route=", "x=y", "pod"] {
            assert_eq!(EdgeHeader::parse(nonsense), EdgeHeader::default(), "{nonsense}");
        }
    }

    #[test]
    fn equal_origins_are_one_allocation() {
        let mut origins = Origins::default();
        let edge = EdgeHeader::parse("route=a;side=service");
        let first = origins.share(&edge, Some("content-1"), None);
        assert!(Arc::ptr_eq(&first, &origins.share(&edge, Some("content-1"), None)));
        assert!(!Arc::ptr_eq(&first, &origins.share(&edge, None, None)));
        for n in 0..3 * Origins::MAX {
            origins.share(&edge, Some(&n.to_string()), None);
        }
        assert!(origins.0.len() <= Origins::MAX);
    }
}
