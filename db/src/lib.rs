//! What survives a restart: one SQLite file per daemon, one schema for both.
//!
//! **Durability.** When [`Store::apply`] or [`Store::boot`] has returned, what it was given is on disk and survives a
//! crash of the process and of the machine (write-ahead log, `synchronous=FULL`). Changes of one call are found
//! again all together or not at all.
//!
//! **Versions.** A store of an older schema is brought up to date when it is opened to be written; one of a newer
//! schema is refused and left as it is.
//!
//! **Readers.** A store may be read while its daemon runs ([`Store::open_read_only`]). A second writer is refused.
//!
//! This crate knows nothing of machines: it is told [`Change`]s and gives back [`Rows`]. It reads no clock and draws
//! nothing.

mod check;
mod columns;
mod error;
mod row;
mod schema;
mod store;

pub use error::StoreError;
pub use row::{
    Change, ClaimRow, ClaimState, LEASE_MS, LegacyRow, ListenedRow, LoanRow, MarkRow, MemberRow,
    ReferenceRow, ReplicaRow, RestRow, RollRow, RollState, Rows, SerialRow,
};
pub use store::{Boot, Header, Kind, Store};
