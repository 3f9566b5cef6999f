//! This server defends its addresses too (G13): a dead BINLD's stream is never undefended.

use std::net::Ipv4Addr;

use wire::query::Query;

use super::references::Place;

/// Whether a query asks for an address that carries something else here: same address, and not the same content.
/// Ports, boot server type and layer do not count (`requirements.md` § 4, R003.8–R003.13).
pub(crate) fn conflicts(place: &Place, own: Ipv4Addr, query: &Query) -> bool {
    !(query.content.server == own && query.content.file == *place.file())
}
