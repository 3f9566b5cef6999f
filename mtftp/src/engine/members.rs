//! We as a member of our domain (R004.5–R004.16): every BINLD knows of us, and of the references that we keep; and we know
//! which BINLDs live.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use driver::{Draw, Time, Wall};
use peers::domain::{Domain, DomainConfig, News, Output};
use wire::GroupAddr;
use wire::configure::DeleteForDead;
use wire::control::Envelope;
use wire::record::{Body, RecordKind, ServerRole};

use super::action::Event;
use super::references::Sender;
use super::{Engine, EngineConfig, Identity};
use crate::limits::{PUBLISHED_MAX, REFERENCE_LIVES};

/// What the domain was told of our references.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// How many records each address has.
    records: BTreeMap<GroupAddr, usize>,
    /// Records in all.
    count: usize,
    /// Addresses for which there was no room.
    waiting: BTreeSet<GroupAddr>,
}

/// Says hello, and asks the contacts.
pub(super) fn begin(config: &EngineConfig, identity: Identity, draw: Draw, now: Time) -> Domain {
    let member = DomainConfig {
        domain: config.domain,
        me: identity.server,
        boot_epoch: identity.epoch,
        role: ServerRole::Mtftpd,
        control: SocketAddrV4::new(identity.address, config.control_port),
        prefix_len: identity.prefix_len,
        group: config.domain_group,
        contacts: config.contacts.clone(),
        constants: config.lowest,
        author: config.author.clone(),
        tells: config.tells,
        began: 0,
    };
    Domain::new(member, draw, now)
}

/// The number of a record: of several of one address, each has its own.
fn number(group: GroupAddr, part: usize) -> u64 {
    u64::from(group.ip().to_bits()) << 32 | u64::try_from(part).unwrap_or(u64::MAX) & 0xffff_ffff
}

impl Engine {
    /// What another member says to us as a member, by either door.
    pub(super) fn on_member(&mut self, now: Time, wall: Wall, from: SocketAddrV4, envelope: &Envelope) {
        if !self.members.allows(now, *from.ip()) {
            return self.context.over_rate("domain", *from.ip());
        }
        self.domain.on_message(now, wall, from, envelope);
    }

    /// A BINLD wants the reference of another one deleted (G12): of one that is dead as far as we can tell, too. Who
    /// wants it must be a living BINLD of our domain, at the address where that one is.
    pub(super) fn on_delete_for_dead(&mut self, now: Time, sender: Sender, message: &DeleteForDead) {
        self.context.count("control", "delete_for_dead");
        let is_binld = self.domain.role_of(now, sender.binld) == Some(ServerRole::Binld);
        if !is_binld || self.domain.control_of(now, sender.binld) != Some(sender.from) {
            return self.context.count("drop_behalf", "stranger");
        }
        if !self.domain.is_dead(now, message.dead) {
            return self.context.count("drop_behalf", "living");
        }
        let in_session = self.sessions.is_running(message.group);
        self.references.on_delete_for_dead(now, sender, message, in_session, &mut self.context);
    }

    /// The domain hears what changed, and does what it wants done. The end of every input.
    pub(super) fn share_news(&mut self, now: Time) {
        self.publish(now);
        let (then, wall) = self.wall;
        self.domain.on_wall(then, wall);
        for (about, words) in self.context.for_people.drain(..) {
            self.domain.tell_people(now, about, &words);
        }
        while let Some(output) = self.domain.poll_output(now) {
            match output {
                Output::Send(to, message) => self.references.say(to, message, &mut self.context),
                Output::Count(place, what) => self.context.count(place, what),
                Output::Tell(news) => {
                    self.saver.on_news(now, &news);
                    self.on_news(news);
                }
            }
        }
    }

    fn on_news(&mut self, news: News) {
        let event = match news {
            News::Appeared(at) => Event::MemberAppeared { address: *at.ip() },
            News::Left(at) => Event::MemberLeft { address: *at.ip() },
            News::Linked(at) => Event::Linked { address: *at.ip() },
            News::Unlinked(at) => Event::Unlinked { address: *at.ip() },
            News::Unreachable(at) => Event::Unreachable { address: *at.ip() },
            News::Healed(at) => Event::Healed { last: *at.ip() },
            News::Twin(at) if self.context.counters.add_and_tell("domain", "twin_told") => {
                Event::Twin { address: *at.ip() }
            }
            // Nothing of ours rests on the silence of others, nor on their records.
            News::Twin(_) | News::Deaf(_) | News::Changed(_) => return,
        };
        self.context.tell(event);
    }

    /// Tells the domain of the references that changed. A renewal by itself changes nothing that anybody goes by, and with
    /// a thousand addresses there are dozens of them a second.
    fn publish(&mut self, now: Time) {
        let mut changed = self.references.take_changed();
        while let Some(group) = changed.pop_first() {
            let bodies = self.references.told(group);
            let said = self.published.records.remove(&group).unwrap_or(0);
            self.published.waiting.remove(&group);
            self.published.count -= said;
            let room = PUBLISHED_MAX - self.published.count;
            if bodies.len() > room {
                // Its stale references go by an operator's word only.
                self.context.count("domain", "no_room_for_reference");
                self.published.waiting.insert(group);
            }
            let parts = bodies.len().min(room);
            for (part, body) in bodies.into_iter().take(parts).enumerate() {
                let number = number(group, part);
                self.domain.put(now, RecordKind::Reference, number, REFERENCE_LIVES, Body::Reference(body));
            }
            for part in parts..said {
                self.domain.delete(now, RecordKind::Reference, number(group, part));
            }
            if parts > 0 {
                self.published.records.insert(group, parts);
                self.published.count += parts;
            }
            if parts < said {
                changed.append(&mut self.published.waiting);
            }
        }
    }
}
