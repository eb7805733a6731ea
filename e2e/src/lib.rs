//! End-to-end harness: everything needed to watch Stomaton work on a real Kubernetes.
//!
//! - [`cluster`]: finds or starts a cluster (an existing context, kind, or one built from Go modules)
//! - [`images`]: makes OCI images from files, without a Docker daemon
//! - [`load`]: the load generator that runs as pods and never retries
//! - [`harness`]: what scenarios and the demo share: installation, namespaces, traffic, faults, evidence
//! - [`campaign`]: what scenarios do in short and benches at length
//! - [`demo`]: the main job, watched
//! - [`bench`]: what benches share
//! - [`report`]: figures as JSON and as a table

pub mod bench;
pub mod campaign;
pub mod cluster;
pub mod demo;
pub mod harness;
pub mod images;
pub mod load;
pub mod report;
