//! The rest of what may happen to a plan: every fault, every phase, a real Prometheus. `make test-matrix` runs them, one after
//! the other: three of these fleets at once were too much for two cores.

mod abort;
mod deleted;
mod faults;
mod monitoring;
mod order;
