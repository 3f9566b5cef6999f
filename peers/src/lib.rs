//! What servers know of each other, without I/O: datagrams and time in, datagrams and knowledge out.
//!
//! | module | what it is |
//! |---|---|
//! | [`hello`] | who lives, who speaks only the frozen packet, how much is lost, whose silence means nothing |
//! | [`limits`] | every bound and span, with its reason |

pub mod hello;
pub mod limits;
mod window;
