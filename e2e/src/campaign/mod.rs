//! What is done to an edge under load, for as long as the caller wants: scenarios do it in short, `make bench-edge` at
//! length. Each takes a fleet and gives what clients saw; what that must be, the caller knows. I/O: the cluster.
//!
//! - [`weights`]: weights that move
//! - [`structure`]: routes that come and go
//! - [`limits`]: how many requests are accepted

pub mod limits;
pub mod structure;
pub mod weights;
