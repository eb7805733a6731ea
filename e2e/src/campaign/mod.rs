//! What is done to an edge under load, for as long as the caller wants: scenarios do it in short, `make bench-edge` and
//! `make bench-plan` at length. Each takes a fleet and gives what clients saw; what that must be, the caller knows. I/O:
//! the cluster.
//!
//! - [`weights`]: weights that move
//! - [`structure`]: routes that come and go
//! - [`limits`]: how many requests are accepted
//! - [`rollbacks`]: a service that breaks, and is taken back

pub mod limits;
pub mod rollbacks;
pub mod structure;
pub mod weights;
