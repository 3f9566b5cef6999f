//! The engine's news as lines of the log: how loud, and how often from one source.

use std::net::{Ipv4Addr, SocketAddrV4};

use driver::Time;
use driver::quiet::Quiet;
use wire::policy::SlowClients;

use crate::engine::{DeletedBy, Event, FallBack, Outcome};

/// Writes the line of an event, unless its source has written too many lately.
pub(super) fn tell(quiet: &mut Quiet<Ipv4Addr>, now: Time, event: &Event) {
    if source_of(event).is_none_or(|source| quiet.allow(now, &source)) {
        write(event);
    }
}

/// Who caused a line; `None` for what happens too seldom to flood the log.
fn source_of(event: &Event) -> Option<Ipv4Addr> {
    match event {
        Event::Configured { address, .. } | Event::Refused { address, .. } => Some(*address),
        Event::Defended { from, .. } | Event::SessionBegan { from, .. } => Some(*from.ip()),
        Event::FellBack(fall_back) => Some(fall_back.client),
        Event::TransferEnded { client, .. }
        | Event::NoFile { client, .. }
        | Event::SlowClient { client, .. } => Some(*client.ip()),
        Event::OverRate { source, .. } => Some(*source),
        Event::MemberAppeared { address }
        | Event::MemberLeft { address }
        | Event::Twin { address }
        | Event::Linked { address }
        | Event::Unlinked { address }
        | Event::Unreachable { address }
        | Event::Healed { last: address } => Some(*address),
        Event::Deleted { .. }
        | Event::Stale { .. }
        | Event::Renewed { .. }
        | Event::SessionEnded { .. }
        | Event::StoreFailed => None,
    }
}

fn write(event: &Event) {
    match event {
        Event::Configured { group, file, ports, binld, address } => tracing::info!(
            %group, %file, client_port = ports.client, server_port = ports.server, %binld, %address,
            "address configured"
        ),
        Event::Refused { group: Some(group), file, why, address } => {
            tracing::warn!(%group, %file, why, %address, "configure refused");
        }
        Event::Refused { group: None, file, why, address } => {
            tracing::warn!(%file, why, %address, "file refused");
        }
        Event::Deleted { group, file, binld, released, by: DeletedBy::Itself } => {
            tracing::info!(%group, %file, %binld, released, "reference deleted");
        }
        Event::Deleted { group, file, binld, released, by: DeletedBy::Operator } => {
            tracing::warn!(%group, %file, %binld, released, "reference deleted by an operator, on behalf of its BINLD");
        }
        Event::Deleted { group, file, binld, released, by: DeletedBy::Member(member) } => tracing::warn!(
            %group, %file, %binld, released, by = %member,
            "reference deleted by a living BINLD, on behalf of its dead one"
        ),
        Event::SlowClient { client, group, what } => write_slow(*client, *group, *what),
        Event::MemberAppeared { address } => tracing::info!(server = %address, "another server says hello"),
        Event::MemberLeft { address } => tracing::info!(server = %address, "another server leaves"),
        Event::Twin { address } => {
            let todo = "one of the two runs with a copy of the other's store: empty it before its next start";
            tracing::error!(server = %address, todo, "another server has our id");
        }
        Event::Linked { address } => tracing::info!(server = %address, "neighbour beyond the link"),
        Event::Unlinked { address } => {
            tracing::warn!(server = %address, "a neighbour beyond the link is silent");
        }
        Event::Unreachable { address } => {
            let todo = "look whether it runs, and at what lies between";
            tracing::warn!(server = %address, todo, "unreachable: a member of the domain is cut off, or dead");
        }
        Event::Healed { last } => tracing::info!(%last, "healed: no member is unreachable any more"),
        Event::Stale { group, file, binld, address, renewed } => tracing::warn!(
            %group, %file, %binld, %address, renewed_ms = renewed.0,
            "reference stale: its BINLD does not renew it; nothing is freed"
        ),
        Event::Renewed { group, file, binld, address } => {
            tracing::info!(%group, %file, %binld, %address, "stale reference renewed");
        }
        Event::Defended { group, file, from } => {
            tracing::warn!(%group, %file, %from, "address defended: somebody asked for it for something else");
        }
        Event::SessionBegan { group, file, from } => {
            tracing::info!(%group, %file, %from, "multicast session began");
        }
        Event::SessionEnded { group, protocol, file, tally } => tracing::info!(
            %group, protocol = protocol.name(), %file, blocks = tally.blocks, multicast = tally.multicast, unicast = tally.unicast,
            spare = tally.spare, openers = tally.openers, complete = tally.complete, lost = tally.lost, slow = tally.slow,
            "multicast session ended"
        ),
        Event::TransferEnded { client, file, outcome } => match outcome {
            Outcome::Complete => tracing::info!(%client, %file, "file sent by plain TFTP"),
            Outcome::Probe => tracing::debug!(%client, %file, "size asked by plain TFTP"),
            Outcome::Superseded => tracing::debug!(%client, %file, "plain TFTP asked again"),
            Outcome::Aborted => tracing::info!(%client, %file, "plain TFTP aborted by the client"),
            Outcome::Silent => tracing::info!(%client, %file, "plain TFTP ended: the client is silent"),
            Outcome::FileChanged => tracing::warn!(%client, %file, "plain TFTP ended: the file changed"),
        },
        Event::FellBack(fall_back) => write_fall_back(fall_back),
        Event::NoFile { client, file } => tracing::info!(%client, %file, "no such file"),
        Event::OverRate { source, place } => {
            tracing::warn!(%source, place, "one source says more than is taken from one: the rest is dropped");
        }
        Event::StoreFailed => tracing::warn!("the store failed: requests that need it hear nothing"),
    }
}

fn write_fall_back(FallBack { at: _, mac, client, group, file, cause }: &FallBack) {
    tracing::warn!(
        %mac, %client, %group, %file, cause = cause.name(), likely = %cause,
        "fall-back: a client that was told a multicast address fetches by plain TFTP"
    );
}

fn write_slow(client: SocketAddrV4, group: SocketAddrV4, what: SlowClients) {
    tracing::info!(%client, %group, what = what.name(), "slow: others waited for this client");
}
