//! Who knows the users, checked. Pure.

use crate::names::{BackendKey, HeaderName, NameError, PathPrefix};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use stomaton_crds::v1alpha1::EdgeAuth;

/// Who knows the users.
#[derive(Clone, Debug, Default)]
pub(in crate::nginx) struct CheckedAuth {
    /// Who is asked, and where. `None`: nobody can say.
    pub(in crate::nginx) ask: Option<(BackendKey, PathPrefix)>,
    /// Headers of the answer that backends get, and that clients cannot set.
    pub(in crate::nginx) identity: Vec<HeaderName>,
    pub(in crate::nginx) timeout_millis: i32,
}

/// Without a header that was given, clients could set it: then there is no configuration.
pub(super) fn auth(
    given: &EdgeAuth,
    backends: &BTreeMap<BackendKey, SocketAddr>,
) -> Result<CheckedAuth, NameError> {
    let identity =
        given.identity_headers.iter().map(|name| HeaderName::parse(name)).collect::<Result<Vec<_>, _>>()?;
    let backend = given.backend.as_deref().map(BackendKey::parse).transpose()?;
    let path = PathPrefix::parse(&given.path)?;
    Ok(CheckedAuth {
        ask: backend.filter(|key| backends.contains_key(key)).map(|key| (key, path)),
        identity,
        timeout_millis: given.timeout_millis.clamp(1, 60_000),
    })
}
