//! From NGINX's access logs to counters. Takes a directory that NGINX writes to, moves the counters of a
//! [`crate::state::State`]. Does I/O.
//!
//! - `count`: one line (pure)
//! - `reader`: one file, read to its end as it grows
//! - `tail`: both files, rotation, and where a restarted agent goes on
//! - `print`: the same lines for people, on standard output
//! - `follow`: waits for the kernel to say that something was written

mod count;
mod follow;
mod print;
mod reader;
mod tail;

pub use follow::follow;
pub use print::{Printer, Stdout, Switch};
pub use tail::{Checkpoint, Tail};

/// Answers that did not hurt: NGINX buffers them.
pub const GOOD_LOG: &str = "good.log";
/// Answers that hurt: NGINX writes each at once.
pub const BAD_LOG: &str = "bad.log";
/// Ending of a log that was renamed, so that NGINX will open a new one.
pub const ROTATED: &str = ".old";
