//! The simulator: the cores of the daemons, on one virtual clock and a link that loses, delays and repeats.
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | events in order of true time; each is given to one host |
//! | [`node`], [`clock`] | a host: a program, its clocks, up or down |
//! | [`program`] | what can run: [`binld_host`], [`mtftp_host`], [`legacy`], [`client`], [`script`] |
//! | [`link`] | what happens to a datagram on the way to one receiver |
//! | [`check`], [`replies`], [`answers`] | what must hold after every step |
//! | [`scenario`] | hosts, boot items and addresses of a test |
//! | [`failover`] | who answers when the boot server dies that did |
//! | [`duels`] | one race, thousands of times, against the numbers of `races.md` |
//! | [`amplification`] | what a forged request draws from the file server |
//! | [`mix`], [`swarm`] | a scenario and its faults, drawn from a seed; many of them |
//!
//! Beside it, for tests of the daemons themselves, real time and real sockets: [`lab`] makes network namespaces,
//! [`daemon`] runs our programs in them, [`boot_net`] puts a boot network together, [`pxe_client`] and
//! [`transfer_client`] are its machines. [`tftp_load`] and [`boot_load`] are many of them in one thread, and [`meter`] tells
//! what a server spent on them. [`capture`] records every datagram of a lab, and [`wire_check`] judges them.
//!
//! Everything in the simulator is drawn from one seed, each purpose from a stream of its own ([`seed`]), so a run can be
//! repeated to the byte: `PXEMC_SEED=123 cargo test -p tests --test swarm replay -- --nocapture`.
#![allow(clippy::indexing_slicing, reason = "a wrong host number is a wrong test, and shall stop it")]
#![allow(clippy::cast_possible_truncation, reason = "block numbers wrap on the wire")]

pub mod amplification;
pub mod answers;
pub mod binld_host;
pub mod boot_load;
pub mod boot_net;
pub mod capture;
pub mod check;
pub mod client;
pub mod clock;
pub mod daemon;
pub mod disk;
pub mod duels;
pub mod failover;
pub mod getter;
pub mod group_load;
mod inlet;
pub mod ipxe;
pub mod lab;
pub mod legacy;
pub mod link;
pub mod meter;
pub mod mix;
pub mod mtftp_host;
pub mod node;
pub mod program;
pub mod pxe_client;
pub mod replies;
pub mod scenario;
pub mod script;
pub mod seed;
pub mod site;
pub mod swarm;
pub mod tftp_load;
pub mod trace;
pub mod transfer_client;
pub mod wire_check;
pub mod world;

pub use check::{Rules, Violation};
pub use client::{Client, ClientKind};
pub use link::LinkFaults;
pub use world::{Fault, World};
