//! The controllers on a real API server, with the rights that the installation gives them. One program, so that
//! all tests share one server.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod crash;
mod edge_pods;
mod frozen;
mod gates;
mod gateway;
mod guards;
mod migration_plan;
mod policies;
mod reasons;
mod rights;
mod roles;
mod runtime;
mod script;
mod shape;
mod snapshot;
mod stomaton_service;
mod wire;
mod wiring;
mod world;
