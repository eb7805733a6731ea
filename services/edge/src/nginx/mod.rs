//! From an EdgeConfig to the text of a configuration of NGINX. Takes the object and where things are, gives text and
//! what was left out. Pure.
//!
//! - [`checked`]: every string of the object parsed into a type of its own, bad routes left out
//! - `routing`: which route answers which host, path and method
//! - `build`: the tree of directives
//! - `tree`, `encode`: the only way to text
//! - [`tokens`]: what a configuration includes
//! - `lex`, `gate`: the text is read back, and handed out only if it means its tree and says nothing unusual

mod build;
mod checked;
mod encode;
mod gate;
mod lex;
mod routing;
#[cfg(test)]
mod tests;
pub mod tokens;
mod tree;

pub use checked::Dropped;
pub use gate::GateError;
pub use tree::DataError;

use crate::{control::Version, names::NameError, names::PodName};
use std::net::SocketAddr;
use std::path::PathBuf;
use stomaton_crds::v1alpha1::EdgeConfigSpec;

/// Where things are in this pod, and what its NGINX can do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the pod, for the diagnostic header.
    pub pod: PodName,
    /// Version of NGINX: some directives need a newer one.
    pub version: Version,
    /// Worker processes.
    pub workers: u16,
    /// Where users are answered.
    pub http_address: SocketAddr,
    /// Where users are answered over TLS.
    pub https_address: SocketAddr,
    /// Directory with a directory for each certificate.
    pub tls_dir: PathBuf,
    /// Directory with a directory for each Secret of tokens, as tables.
    pub token_tables_dir: PathBuf,
    /// Unix socket of the private probe.
    pub probe_socket: PathBuf,
    /// Directory of [`crate::weights`].
    pub weights_dir: PathBuf,
    /// Directory of the access logs.
    pub log_dir: PathBuf,
}

/// A configuration, and what did not make it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Text for NGINX.
    pub text: String,
    /// Routes, or parts of them, that were left out. Everything else works.
    pub dropped: Vec<Dropped>,
}

/// Why no configuration can be made at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Without it, what no route matches has no answer.
    #[error("the default backend cannot be used: {0}")]
    DefaultBackend(String),
    /// With a host left out, the edge would answer for others.
    #[error("hosts or certificates cannot be used: {0}")]
    Listen(NameError),
    /// With a header left out, clients could say who they are.
    #[error("what is said of users cannot be used: {0}")]
    Auth(NameError),
    /// A path of this pod, not of the object, is not fit for a configuration.
    #[error("a path given to the agent cannot be written: {0}")]
    Path(#[from] DataError),
    /// The pod's own name, or that of the cookie.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The text says something that it should not. A fault of this program; the configuration before stays.
    #[error("what was rendered failed its own check, so NGINX does not get it: {0}")]
    Gate(#[from] GateError),
}

/// Renders `spec`.
pub fn render(spec: &EdgeConfigSpec, settings: &Settings) -> Result<Rendered, RenderError> {
    let (checked, dropped) = checked::check(spec)?;
    let tree = build::build(&checked, settings)?;
    let text = encode::encode(&tree);
    gate::pass(&tree, &text)?;
    Ok(Rendered { text, dropped })
}
