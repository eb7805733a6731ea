//! The rest of what may happen to a plan: order, every phase, a real Prometheus. `make test-matrix` runs them, one after
//! the other: three of these fleets at once were too much for two cores.

mod abort;
mod deleted;
mod monitoring;
mod order;
