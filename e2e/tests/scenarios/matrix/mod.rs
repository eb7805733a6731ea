//! The rest of what may happen to a plan: every fault, every phase, a real Prometheus. `make test-matrix` runs them.

mod abort;
mod deleted;
mod faults;
mod monitoring;
mod order;
