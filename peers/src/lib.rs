//! What servers know of each other, without I/O: datagrams and time in, datagrams and knowledge out.
//!
//! | module | what it is |
//! |---|---|
//! | [`domain`] | the member machine, made of the others |
//! | [`exchange`] | with whom to compare records, and when |
//! | [`hello`] | who lives, who speaks only the frozen packet, how much is lost, whose silence means nothing |
//! | [`records`] | what the servers of a domain tell each other, and which copy is the newer one |
//! | [`links`] | neighbours beyond our own link |
//! | [`further`] | domains beside our own: the list of domains, and what they tell of each other |
//! | [`graph`] | the shape of the domain, by what members tell of their neighbours |
//! | [`lowest`] | the lowest id of the domain: which servers are connected, and who is cut off |
//! | [`notes`] | how much a member says in notes |
//! | [`saved`] | what a store keeps of the other members, for people |
//! | [`elect`] | one office, and who holds it: what every election here goes by |
//! | [`responder`] | which boot server answers which clients |
//! | [`rendezvous`] | who is the one for something, found by everybody alone |
//! | [`roll`] | the agreed list of boot servers: whose slice an address is in |
//! | `rows` | notes as rows of the store; feature `store` only |
//! | [`limits`] | every bound and span, with its reason |

pub mod domain;
pub mod elect;
pub mod exchange;
pub mod further;
pub mod graph;
pub mod hello;
pub mod limits;
pub mod links;
pub mod lowest;
pub mod notes;
pub mod records;
pub mod rendezvous;
pub mod responder;
pub mod roll;
#[cfg(feature = "store")]
pub mod rows;
pub mod saved;
mod window;
