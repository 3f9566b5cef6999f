//! The boot server: who holds which group address, and what a client is told.
//!
//! [`engine`] is the protocol, without I/O. With feature `daemon` (default) the rest makes a program of it:
//! `config` reads the configuration, `shell` opens sockets and the store and drives the engine, `cli` is the command
//! line.
//!
//! What holds throughout:
//! * a client is told an address only while its claim is held: cleared, recorded, configured and acknowledged (I5);
//! * no answer names a server that has not acknowledged the file in the last 60 s;
//! * what is said to others that relies on the store is said after the store answered.

pub mod engine;
pub mod limits;

#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "store")]
pub mod rows;
#[cfg(feature = "daemon")]
pub mod shell;
