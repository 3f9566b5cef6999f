//! This server defends its addresses too (G13): a dead BINLD's stream is never undefended.

use std::net::Ipv4Addr;

use driver::Time;
use wire::Content;
use wire::hold::{Hold, HoldState};

use super::references::Place;

/// Whether somebody asks for an address that carries something else here: same address, and not the same content.
/// Ports, boot server type and layer do not count (`requirements.md` § 4, R003.8–R003.13).
pub(crate) fn conflicts(place: &Place, own: Ipv4Addr, asked: &Content) -> bool {
    !(asked.server == own && asked.file == *place.file())
}

/// What we say to a holder's statement: nothing if it is about another address or about the same content. We hand
/// nothing out, so an address with references is *draining*, which loses to every claim and stays defended (Y4).
pub(crate) fn hold(
    now: Time,
    place: &Place,
    own: Ipv4Addr,
    statement: &Hold,
    in_session: bool,
) -> Option<Hold> {
    let content = Content { server: own, file: place.file().clone() };
    if statement.content == content {
        return None;
    }
    let (state, stamp, in_use) = match place {
        Place::Claimed(claim) => (HoldState::Draining, claim.stamp()?, in_session || claim.was_opened(now)),
        Place::Resting(rest) => (HoldState::Resting, rest.stamp, false),
    };
    let Hold { group, nonce, .. } = *statement;
    Some(Hold { group, content, stamp, state, in_use, is_answer: true, nonce })
}
