//! Real daemons on real sockets, each test in network namespaces of its own (see `sim::lab`): root only, and the
//! programs must have been built before.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod coordination;
mod coordination_loss;
mod crashes;
mod discovery;
mod failover;
mod fall_backs;
mod get;
mod hostile;
mod lab;
mod lifecycle;
mod references;
mod refusals;
mod rooms;
mod segments;
mod slices;
mod store_faults;
mod talk;
mod transfer;
mod whole_domain;
