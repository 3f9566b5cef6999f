//! What must hold whatever the network brings: the targets of `cargo fuzz` call it with bytes the fuzzer makes up, an
//! ordinary test (`replay.rs`) with those that were kept.
//!
//! | module | what it is |
//! |---|---|
//! | [`decoders`] | one function per decoder: what decodes can be written and read again |
//! | [`file_server`], [`boot_server`] | a whole core, driven by a script in bytes and checked after each input |
//! | [`domain`] | what servers of a domain say to each other, of a script |
//! | [`script`] | choices read off bytes |

pub mod boot_server;
pub mod decoders;
pub mod domain;
pub mod file_server;
pub mod script;
