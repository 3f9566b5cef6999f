//! The engine's news as lines of the log: how loud, and how often from one source.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use driver::Time;
use driver::quiet::Quiet;
use peers::responder::News;
use wire::{Content, GroupAddr, Mac, ServerId};

use super::responding;
use crate::engine::event::{Event, Offer, WhyPlain, WhySilent};
use crate::engine::files::TooLarge;

/// Who caused a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Client(Mac),
    Server(Ipv4Addr),
    Member(ServerId),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(mac) => mac.fmt(f),
            Self::Server(address) => address.fmt(f),
            Self::Member(server) => server.fmt(f),
        }
    }
}

/// Writes the line of an event, unless its source has written too many lately.
pub(super) fn tell(quiet: &mut Quiet<Source>, now: Time, event: &Event) {
    // What each machine of a boot storm causes twice: where nobody reads it, it costs nothing.
    let is_storm = matches!(event, Event::Asked { .. } | Event::Answered { .. });
    if is_storm && !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    if source_of(event).is_none_or(|source| quiet.allow(now, &source)) {
        write(event);
    }
}

/// Who can cause as many such events as it likes; `None` if we alone set the pace.
fn source_of(event: &Event) -> Option<Source> {
    match event {
        Event::Responder(News::Strange(server, _)) => Some(Source::Member(*server)),
        Event::Responder(
            News::TookOver { .. } | News::GaveWay { .. } | News::Failed(_) | News::Works(_) | News::Slept,
        ) => None,
        Event::Asked { mac, .. } | Event::Answered { mac, .. } | Event::Unanswered { mac, .. } => {
            Some(Source::Client(*mac))
        }
        Event::Contested { by, .. }
        | Event::LateConflict { by, .. }
        | Event::Disputed { by, .. }
        | Event::Mute { by, .. } => Some(Source::Server(*by)),
        Event::Yielded { to, .. } => Some(Source::Server(*to)),
        Event::Deaf { who } => Some(Source::Server(*who)),
        Event::OverRate { source, .. } => Some(Source::Server(*source)),
        Event::PeerAppeared { address }
        | Event::PeerLeft { address }
        | Event::Twin { address }
        | Event::Linked { address }
        | Event::Unlinked { address }
        | Event::Unreachable { address }
        | Event::Healed { last: address } => Some(Source::Server(*address)),
        Event::Defended { against, .. } => Some(Source::Server(*against)),
        Event::ServerSilent { server } | Event::ServerBack { server } => Some(Source::Server(*server)),
        Event::Clearing { .. }
        | Event::Exhausted { .. }
        | Event::Committed { .. }
        | Event::Held { .. }
        | Event::NoSuchFile { .. }
        | Event::TooLarge { .. }
        | Event::ManyConflicts { .. }
        | Event::TurnOver { .. }
        | Event::Draining { .. }
        | Event::Released { .. }
        | Event::Shared { .. }
        | Event::ForDead { .. }
        | Event::RollInForce { .. }
        | Event::LeftOut
        | Event::NotStruck { .. }
        | Event::StoreFailed => None,
    }
}

fn write(event: &Event) {
    match event {
        Event::Responder(news) => responding::write(*news),
        Event::Asked { mac, client, item } => tracing::info!(%mac, %item, address = %client, "asked"),
        Event::Answered { mac, item, file_server, offer, waited } => {
            write_answered(*mac, item, *file_server, *offer, *waited);
        }
        Event::Unanswered { mac, item, why } => {
            tracing::warn!(%mac, %item, outcome = "silence", why = why_silent(*why), "not answered");
        }
        Event::Clearing { group, content } => tracing::debug!(%group, %content, "clearing"),
        Event::Contested { group, content, by } => {
            tracing::warn!(%group, %content, %by, "contested: another server has the address");
        }
        Event::Exhausted { content } => {
            let todo = "clients get plain TFTP; look who uses the pool";
            tracing::warn!(%content, todo, "no address: everything in the pool is in use or was refused");
        }
        Event::Committed { group, content } => tracing::info!(%group, %content, "cleared"),
        Event::Held { group, content } => {
            tracing::info!(%group, %content, "held: configured and acknowledged");
        }
        Event::ServerSilent { server } => {
            tracing::warn!(%server, "the MTFTP server does not answer; is mtftpd running there?");
        }
        Event::ServerBack { server } => tracing::info!(%server, "the MTFTP server answers again"),
        Event::NoSuchFile { content } => {
            tracing::warn!(%content, "the MTFTP server does not have the file; put it there, or change the item");
        }
        Event::TooLarge { content, facts } => write_too_large(content, *facts),
        Event::Defended { group, content, against } => {
            tracing::info!(%group, %content, %against, "defended");
        }
        Event::LateConflict { group, content, by } => {
            tracing::warn!(%group, %content, %by, "late conflict: another server claims an address committed here");
        }
        Event::Disputed { group, content, by, theirs } => {
            tracing::warn!(%group, %content, %by, %theirs, "disputed: two servers have the address; not handed out");
        }
        Event::Yielded { group, content, to } => {
            tracing::warn!(%group, %content, %to, "yielded: the other server has the better right");
        }
        Event::Mute { group, content, by, listed } => write_mute(*group, content, *by, *listed),
        Event::Deaf { who } => {
            tracing::warn!(server = %who, "deaf: its kernel drops datagrams, so its silence means nothing");
        }
        Event::OverRate { source, place } => {
            tracing::warn!(%source, place, "one source says more than is taken from one: the rest is dropped");
        }
        Event::PeerAppeared { address } => tracing::info!(server = %address, "another server says hello"),
        Event::PeerLeft { address } => tracing::info!(server = %address, "another server leaves"),
        Event::Twin { address } => write_twin(*address),
        Event::Linked { address } => tracing::info!(server = %address, "neighbour beyond the link"),
        Event::Unlinked { address } => write_unlinked(*address),
        Event::Unreachable { address } => write_unreachable(*address),
        Event::Healed { last } => tracing::info!(%last, "healed: no member is unreachable any more"),
        Event::RollInForce { version, members } => write_in_force(*version, *members),
        Event::LeftOut => write_left_out(),
        Event::NotStruck { server } => write_not_struck(*server),
        Event::Shared { group, content, owner } => {
            tracing::info!(%group, %content, %owner, "shared: another boot server has this content there");
        }
        Event::ForDead { group, content, dead } => write_for_dead(*group, content, *dead),
        Event::ManyConflicts { content } => write_many_conflicts(content),
        Event::TurnOver { content, waiting } => {
            tracing::info!(%content, waiting, "the pinned tuple is left to others that wait for it");
        }
        Event::Draining { group, content } => tracing::info!(%group, %content, "draining"),
        Event::Released { group, content } => tracing::info!(%group, %content, "released; the address rests"),
        // The store's own line says why and what to do.
        Event::StoreFailed => tracing::debug!("a change was not stored"),
    }
}

fn write_for_dead(group: GroupAddr, content: &Content, dead: ServerId) {
    tracing::warn!(%group, %content, %dead, "a boot server is dead: the MTFTP server is asked to delete its reference");
}

fn write_many_conflicts(content: &Content) {
    tracing::warn!(%content, "conflict follows conflict: fewer attempts are made");
}

fn write_in_force(version: u32, members: usize) {
    tracing::info!(version, members, "the boot servers have agreed upon who they are");
}

fn write_not_struck(server: ServerId) {
    tracing::warn!(%server, "was taken in again while it was struck off: strike it off again");
}

fn write_left_out() {
    let todo = "nothing if this server is to go on: the next list has it again";
    tracing::warn!(todo, "struck off the list of boot servers by an operator");
}

fn write_unlinked(address: Ipv4Addr) {
    tracing::warn!(server = %address, "a neighbour beyond the link is silent");
}

fn write_unreachable(address: Ipv4Addr) {
    let todo = "look whether it runs, and at what lies between; binld status names all that are unreachable";
    tracing::warn!(server = %address, todo, "unreachable: a member of the domain is cut off, or dead");
}

fn write_twin(address: Ipv4Addr) {
    let todo = "one of the two runs with a copy of the other's store: empty it before its next start";
    tracing::error!(server = %address, todo, "another server has our id");
}

fn write_mute(group: GroupAddr, content: &impl fmt::Display, by: Ipv4Addr, listed: bool) {
    let todo = "if it is a boot server that speaks only the query, list it in query.legacy_peers";
    tracing::warn!(%group, %content, %by, listed, todo, "a server echoes our address and answers nothing");
}

/// One line per boot step: MAC, item, address, outcome.
fn write_answered(mac: Mac, item: &str, file_server: Ipv4Addr, offer: Offer, waited: Duration) {
    let waited_ms = waited.as_millis();
    match offer {
        Offer::Multicast(group) => {
            tracing::info!(
                %mac, item, address = %group, outcome = "multicast", %file_server, waited_ms, "answered"
            );
        }
        Offer::PlainTftp(why) => {
            let why = why_plain(why);
            tracing::info!(
                %mac, item, address = %file_server, outcome = "plain TFTP", why, waited_ms, "answered"
            );
        }
    }
}

fn write_too_large(content: &Content, TooLarge { size, size_max }: TooLarge) {
    let todo = "clients get it by plain TFTP; make it smaller, or have a smaller one load the rest";
    tracing::warn!(%content, size, size_max, todo, "the file is too large to be multicast");
}

fn why_plain(why: WhyPlain) -> &'static str {
    match why {
        WhyPlain::ByProfile => "nothing to multicast to this kind of client",
        WhyPlain::OffLink => "the client is not on our link",
        WhyPlain::NotHeldInTime => "no address was ready in time",
        WhyPlain::Refused => "another server has the address",
        WhyPlain::Disputed => "another server says that it has the address, too",
        WhyPlain::TooLarge => "the file is too large for it",
        WhyPlain::NoMulticastFile => "no server has acknowledged the multicast file",
        WhyPlain::FileElsewhere => "the file lies on another host than binld",
    }
}

fn why_silent(why: WhySilent) -> &'static str {
    match why {
        WhySilent::NoServer => "no MTFTP server has acknowledged the file",
        WhySilent::TooLong => "the answer does not fit into a datagram",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::quiet::SPAN;

    fn unanswered(last: u8) -> Event {
        Event::Unanswered { mac: Mac([0, 0, 0, 0, 0, last]), item: "i".into(), why: WhySilent::NoServer }
    }

    #[test]
    fn what_is_suppressed_is_told_of_once_the_span_is_over() {
        let mut quiet = Quiet::default();
        (0..driver::quiet::LINES_MAX).for_each(|_| tell(&mut quiet, Time::ZERO, &unanswered(1)));
        tell(&mut quiet, Time::ZERO, &unanswered(2));
        assert!(!quiet.is_waiting());
        tell(&mut quiet, Time::ZERO, &unanswered(1));
        quiet.tell_suppressed(Time::ZERO);
        assert!(quiet.is_waiting());
        quiet.tell_suppressed(Time::ZERO + SPAN);
        assert!(!quiet.is_waiting());
    }

    #[test]
    fn what_nobody_reads_is_neither_written_nor_suppressed() {
        // No subscriber here takes lines of that level.
        let asked = Event::Asked { mac: Mac([0; 6]), client: Ipv4Addr::new(10, 0, 0, 1), item: "i".into() };
        let mut quiet = Quiet::default();
        (0..1000).for_each(|_| tell(&mut quiet, Time::ZERO, &asked));
        assert!(!quiet.is_waiting());
    }

    #[test]
    fn what_we_do_ourselves_is_never_suppressed() {
        let mut quiet = Quiet::default();
        (0..1000).for_each(|_| tell(&mut quiet, Time::ZERO, &Event::StoreFailed));
        assert!(!quiet.is_waiting());
    }
}
