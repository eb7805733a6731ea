//! What a route wants otherwise than the rest, as directives of its location. Pure.

use crate::nginx::tree::{Arg, DataError, Node, Text, line};
use stomaton_crds::v1alpha1::EdgeHandling;

/// Directives for `handling`: none, when it is as usual.
pub(super) fn nodes(handling: &EdgeHandling) -> Result<Vec<Node>, DataError> {
    let usual = EdgeHandling::default();
    let millis = |millis: i32| -> Result<Arg, DataError> { Ok(Text::number(millis).and("ms")?.into()) };
    let mut nodes = Vec::new();
    if handling.connect_millis != usual.connect_millis {
        nodes.push(line("proxy_connect_timeout", [millis(handling.connect_millis)?]));
    }
    if handling.silent_millis != usual.silent_millis {
        nodes.push(line("proxy_read_timeout", [millis(handling.silent_millis)?]));
        nodes.push(line("proxy_send_timeout", [millis(handling.silent_millis)?]));
    }
    if handling.max_body_bytes != usual.max_body_bytes {
        nodes.push(max_body(handling.max_body_bytes));
    }
    if handling.unbuffered {
        nodes.push(line("proxy_buffering", ["off".into()]));
    }
    if handling.gzip {
        nodes.extend(gzip());
    }
    Ok(nodes)
}

/// The largest body that may come.
pub(super) fn max_body(bytes: i64) -> Node {
    line("client_max_body_size", [Text::number(bytes).into()])
}

/// `text/html` is always among the types; a stream of events never is.
fn gzip() -> [Node; 5] {
    [
        line("gzip", ["on".into()]),
        line("gzip_min_length", ["1024".into()]),
        line("gzip_proxied", ["any".into()]),
        line("gzip_vary", ["on".into()]),
        line(
            "gzip_types",
            [
                "text/plain".into(),
                "text/css".into(),
                "text/javascript".into(),
                "application/javascript".into(),
                "application/json".into(),
                "application/xml".into(),
                "image/svg+xml".into(),
            ],
        ),
    ]
}
