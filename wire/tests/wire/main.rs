//! The `wire` crate from outside: five tests for every message (golden bytes both ways, truncation, trailing bytes,
//! unknown codes, random round trip), and hostile bytes for every decoder.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[macro_use]
mod golden;
mod any;
mod control;
mod dhcp_reply;
mod dhcp_request;
mod domain;
mod elect;
mod hostile;
mod ids;
mod igmp;
mod pxe;
mod query;
mod tftp;
