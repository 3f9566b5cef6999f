//! One file to many clients, and who still needs it.
//!
//! | module | what it is |
//! |---|---|
//! | [`client`] | the clients' side, likewise without I/O: one file fetched by multicast or plain TFTP |
//! | [`engine`] | the pure core: references of BINLDs, defence of their addresses, multicast sessions, plain TFTP |
//! | [`limits`] | every bound and span, with its reason |
//! | `get` (feature `daemon`) | the program `mtftp-get` |
//! | `cli`, `config`, `shell` (feature `daemon`) | configuration, files, store and sockets: the program `mtftpd` |
//!
//! The core takes datagrams and time and gives datagrams and deadlines. Of file contents it says which blocks go
//! where, never the bytes: the shell makes the packets.
#![warn(clippy::indexing_slicing)]

pub mod client;
pub mod engine;
pub mod limits;

#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod get;
#[cfg(feature = "store")]
pub mod rows;
#[cfg(feature = "daemon")]
pub mod shell;
