//! The contract between a machine and whoever drives it, and (feature `io`) the loop that drives it for real.
//!
//! A machine is a protocol without I/O: bytes and time in, bytes and deadlines out. It never asks what time it is,
//! never blocks, never draws on anything but its [`Draw`]. Two drivers exist: the loop in `run` (the daemons) and
//! the simulator in `tests/`. Both keep to the same four steps:
//!
//! 1. wait for one thing: a datagram, the machine's deadline, an answer of the store, a request of an operator;
//! 2. give it to the machine, together with the time;
//! 3. take every action out of the machine's [`Outbox`] and carry it out, in order;
//! 4. ask for the next [`Deadline`].
//!
//! A machine may count on step 3 being finished before the next step 2. Calling `on_timeout` early, late or twice
//! is harmless.

mod counters;
mod datagram;
mod draw;
mod outbox;
mod rate;
mod round_trip;
mod time;

#[cfg(feature = "io")]
pub mod cli;
#[cfg(feature = "io")]
pub mod clock;
#[cfg(feature = "io")]
pub mod config;
#[cfg(feature = "io")]
pub mod console;
#[cfg(feature = "io")]
pub mod control;
#[cfg(feature = "io")]
pub mod host;
#[cfg(feature = "io")]
pub mod quiet;
#[cfg(feature = "io")]
pub mod run;
#[cfg(feature = "io")]
pub mod table;
#[cfg(feature = "io")]
pub mod udp;
#[cfg(feature = "io")]
pub mod watch;
#[cfg(feature = "io")]
pub mod worker;

pub use counters::Counters;
pub use datagram::{Arrival, Role, Transmit};
pub use draw::Draw;
pub use outbox::Outbox;
pub use rate::Rate;
pub use round_trip::RoundTrip;
pub use time::{Deadline, Deadlines, Time, Wall};
