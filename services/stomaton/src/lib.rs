//! The STOMATON system: its domain services, and the unified monolith that they are taken out of.
//!
//! Both are the same library behind different paths, so the two sides of a migration give the same answers
//! and a comparison of them means something.

pub mod auth;
mod catalogue;
pub mod content;
mod library;
pub mod monolith;
mod page;
mod schema;
mod stones;
mod store;

use stomaton_kit::System;

/// Everything that `fleet up stomaton` starts: the services first, so that the monolith is never alone.
pub const SYSTEM: System = System {
    name: "stomaton",
    about: "gemstone knowledge for suppliers, staff and a public wiki",
    services: &[auth::BLUEPRINT, content::BLUEPRINT, monolith::BLUEPRINT],
};
