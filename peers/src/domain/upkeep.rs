//! Neighbours beyond the link: how many, which ones, and who is let go (R004.17, R004.28–R004.33).
//!
//! Each member looks at its neighbours at random intervals:
//!
//! | what it sees | what it does |
//! |---|---|
//! | a member that is known to live, or has vanished within the hour, is not connected | some ask one of those at random; in a large domain not all at once |
//! | fewer neighbours than [`LINKS_MIN`] | asks one that a refusal has named, or any that has less than [`LINKS_IDEAL`] itself |
//! | the farthest member is more than [`DIAMETER_MAX`] hops away | asks one of the farthest |
//! | more neighbours than [`LINKS_IDEAL`] | lets the least useful go, if that has others and nobody of the two gets too far away |
//! | enough of them | now and then asks another one all the same, so that a better one is found |
//! | one of them does not name us any more | it has not heard us for a while: none of ours, either |

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use driver::Time;
use wire::ServerId;
use wire::control::Message;
use wire::membership::{Disconnect, Neighbour};
use wire::record::{Body, Neighbours, RecordKind, Uid};

use super::{Domain, News, Output, member_of};
use crate::graph::Graph;
use crate::limits::{
    DIAMETER_IDEAL, DIAMETER_MAX, HELLO_INTERVAL, HELLO_INTERVAL_MAX, HELLO_SHARE, HELLOS_MISSED, LAZY_LOOKS,
    LINKS_IDEAL, LINKS_MAX, LINKS_MIN, MEMBER_LIVES, PEERS_MAX, SEEKERS, TRY_LOOKS,
};
use crate::links::Worth;

/// So many looks after a link came up the other end has said so.
const LOOKS_TO_NAME: u32 = 5;

/// How the domain is connected, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// Our neighbours beyond the link, in order of address.
    pub neighbours: Vec<(Neighbour, Worth)>,
    /// The most hops from us to a member.
    pub hops: u32,
    /// The most hops from any member to another.
    pub diameter: u32,
    /// Members that are known to live and with whom we are not connected.
    pub apart: usize,
}

impl Domain {
    /// The shape of the domain as its members tell it. It is a few seconds behind.
    #[must_use]
    pub fn graph(&self, now: Time) -> Graph {
        let told = self.records.of_kind(RecordKind::Member, now);
        let told = told.filter_map(|(record, _)| Some((record.uid.owner, *member_of(record)?.control.ip())));
        let mut members: BTreeMap<ServerId, Ipv4Addr> = told.collect();
        members.extend(self.living(now).map(|peer| (peer.server, *peer.control.ip())));
        members.insert(self.config.me, *self.config.control.ip());
        while members.len() > PEERS_MAX {
            members.pop_last();
        }
        let told = self.records.of_kind(RecordKind::Neighbours, now);
        let told = told.filter_map(|(record, _)| {
            let Body::Neighbours(it) = &record.body else { return None };
            Some((record.uid.owner, it))
        });
        let own = self.neighbours_of_ours();
        let mut neighbours: BTreeMap<ServerId, &Neighbours> = told.collect();
        neighbours.insert(self.config.me, &own);
        Graph::new(&members, &neighbours)
    }

    /// How the domain is connected, as we see it.
    #[must_use]
    pub fn shape(&self, now: Time) -> Shape {
        let graph = self.graph(now);
        let hops = graph.hops(self.config.me);
        Shape {
            neighbours: self.links.up().collect(),
            hops: hops.iter().filter_map(|(_, hops)| *hops).max().unwrap_or(0),
            diameter: graph.diameter(),
            apart: hops.iter().filter(|(_, hops)| hops.is_none()).count(),
        }
    }

    fn neighbours_of_ours(&self) -> Neighbours {
        let servers = self.links.up().map(|(it, _)| it.server).collect();
        Neighbours { prefix_len: self.config.prefix_len, servers }
    }

    /// Who our neighbours are has changed, perhaps.
    pub(super) fn tell_neighbours(&mut self, now: Time) {
        let uid = Uid { owner: self.config.me, kind: RecordKind::Neighbours, number: 0 };
        if self.links.is_empty() && self.records.get(&uid, now).is_none() {
            return;
        }
        // Not deleted: what follows a deletion too fast is refused.
        let body = Body::Neighbours(self.neighbours_of_ours());
        self.put(now, RecordKind::Neighbours, 0, MEMBER_LIVES, body);
    }

    /// The most useful neighbour but that one; without any, a member of our link (R004.33).
    pub(super) fn best_but(&self, now: Time, but: SocketAddrV4) -> Option<Neighbour> {
        let others = self.links.up().filter(|(it, _)| it.control != but);
        let best = others.max_by_key(|(_, worth)| worth.utility).map(|(it, _)| it);
        let on_link = || self.living(now).find(|it| it.control != but && self.is_on_link(it.control));
        best.or_else(|| on_link().map(|it| Neighbour { server: it.server, control: it.control }))
    }

    // --- who is lost ----------------------------------------------------------------------------------------

    /// A neighbour does not answer, or says no hello.
    pub(super) fn on_lost(&mut self, now: Time, control: SocketAddrV4, server: ServerId) {
        self.exchanges.forget(server);
        self.tell_neighbours(now);
        self.out.push_back(Output::Tell(News::Unlinked(control)));
        self.links.ask(now, control);
    }

    /// A neighbour that says no hello any more is none.
    pub(super) fn look_for_silent(&mut self, now: Time) {
        // No link has more members than the domain, so nobody says hello more rarely.
        let members = self.records.of_kind(RecordKind::Member, now).count();
        let interval = HELLO_SHARE * u32::try_from(members).unwrap_or(u32::MAX);
        let span = interval.clamp(HELLO_INTERVAL, HELLO_INTERVAL_MAX) * HELLOS_MISSED;
        let is_silent = |it: &Neighbour| {
            let is_young = self.links.since(it.control).is_some_and(|since| now.since(since) < span);
            !is_young && self.member(now, it.server).is_none()
        };
        let silent: Vec<SocketAddrV4> =
            self.links.up().map(|(it, _)| it).filter(is_silent).map(|it| it.control).collect();
        for control in silent {
            if let Some(server) = self.links.close(now, control) {
                self.on_lost(now, control, server);
            }
        }
    }

    /// A contact has rested: it is asked if it is not connected with us anyway.
    pub(super) fn ask_rested(&mut self, now: Time, contact: SocketAddrV4) {
        let known = self.living(now).map(|it| Neighbour { server: it.server, control: it.control });
        let known = known.chain(self.beyond(now)).filter(|it| it.control == contact);
        // If it was set up anew it has more names than one, and lives by the last.
        let names: BTreeSet<ServerId> = known.map(|it| it.server).collect();
        if !names.is_empty() && self.is_on_link(contact) {
            return;
        }
        let hops = self.graph(now).hops(self.config.me);
        let connected = hops.iter().find(|(server, hops)| names.contains(server) && hops.is_some());
        let is_wanted = |server| self.links.len() < LINKS_MIN && self.has_room(now, server);
        if connected.is_none_or(|(server, _)| is_wanted(*server)) {
            self.links.ask(now, contact);
        }
    }

    /// How many neighbours that member tells of.
    fn count_of(&self, now: Time, server: ServerId) -> usize {
        let uid = Uid { owner: server, kind: RecordKind::Neighbours, number: 0 };
        match self.records.get(&uid, now).map(|(record, _)| &record.body) {
            Some(Body::Neighbours(theirs)) => theirs.servers.len(),
            Some(_) | None => 0,
        }
    }

    /// Whether one more neighbour would not be let go there.
    fn has_room(&self, now: Time, server: ServerId) -> bool {
        self.count_of(now, server) < LINKS_IDEAL
    }

    // --- who is wanted --------------------------------------------------------------------------------------

    pub(super) fn look_at_links(&mut self, now: Time) {
        let look = self.config.constants.look;
        self.look_at = now + look;
        let beyond = self.beyond(now);
        if beyond.is_empty() && self.links.is_empty() {
            return;
        }
        self.look_at = now + look + self.draw.jitter(look);
        self.links.on_look();
        self.close_one_sided(now);
        let hops: BTreeMap<ServerId, Option<u32>> =
            self.graph(now).hops(self.config.me).into_iter().collect();
        let away = |server: &ServerId| hops.get(server).copied().flatten();
        // A server that was set up anew has another name, and its address.
        let there: BTreeSet<SocketAddrV4> =
            beyond.iter().filter(|it| away(&it.server).is_some()).map(|it| it.control).collect();
        let is_apart = |it: &&Neighbour| away(&it.server).is_none() && !there.contains(&it.control);
        let apart: Vec<SocketAddrV4> = beyond.iter().filter(is_apart).map(|it| it.control).collect();
        let roomy = beyond.iter().filter(|it| away(&it.server).is_some() && self.has_room(now, it.server));
        let roomy: Vec<SocketAddrV4> = roomy.map(|it| it.control).collect();
        let living = hops.values().flatten().count() as u64;
        if self.draw.below(living) < SEEKERS {
            self.ask_any(now, &apart);
        }
        let far = |more: u32| -> Vec<SocketAddrV4> {
            let most = beyond.iter().filter_map(|it| away(&it.server)).max().filter(|most| *most > more);
            let farthest = beyond.iter().filter(|it| most.is_some() && away(&it.server) == most);
            farthest.map(|it| it.control).collect()
        };
        let count = self.links.len();
        let too_far = far(DIAMETER_MAX);
        if count < LINKS_MIN {
            // Where nobody has room, one less is enough: on our link others are connected.
            if !roomy.is_empty() && !self.links.ask_named(now, &mut self.draw) {
                self.ask_any(now, &roomy);
            }
        } else if !too_far.is_empty() && count < LINKS_MAX {
            self.ask_any(now, &too_far);
        } else if count > LINKS_IDEAL {
            self.let_one_go(now);
        } else if self.draw.below(TRY_LOOKS) == 0 {
            let farthest = far(DIAMETER_IDEAL);
            self.ask_any(now, if farthest.is_empty() { &roomy } else { &farthest });
        }
        if self.draw.below(LAZY_LOOKS) == 0 {
            self.links.make_lazy();
        }
    }

    /// The members beyond our link that are no neighbours, also those that have vanished.
    fn beyond(&self, now: Time) -> Vec<Neighbour> {
        let told = self.records.of_kind(RecordKind::Member, now);
        let told = told.filter_map(|(record, _)| Some((record.uid.owner, member_of(record)?.control)));
        let gone = self.reach.unreachable().map(|it| (it.server, it.control));
        let all: BTreeMap<ServerId, SocketAddrV4> = gone.chain(told).collect();
        let others = all.into_iter().map(|(server, control)| Neighbour { server, control });
        others
            .filter(|it| {
                it.server != self.config.me && !self.is_on_link(it.control) && !self.links.is_up(it.control)
            })
            .collect()
    }

    fn ask_any(&mut self, now: Time, of: &[SocketAddrV4]) {
        let place = usize::try_from(self.draw.below(of.len() as u64)).unwrap_or(0);
        if let Some(control) = of.get(place) {
            self.links.ask(now, *control);
        }
    }

    // --- who is let go --------------------------------------------------------------------------------------

    /// The least useful neighbour goes without which everybody is as near as before, or near enough (R004.29).
    fn let_one_go(&mut self, now: Time) {
        let judged = self.links.up().filter(|(_, worth)| worth.is_known());
        // One that needs us would come back.
        let known = judged.filter(|(it, _)| self.count_of(now, it.server) > LINKS_MIN);
        let Some((it, _)) = known.min_by_key(|(_, worth)| worth.utility) else { return };
        let (me, graph) = (self.config.me, self.graph(now));
        let without = graph.without(me, it.server);
        let is_as_good = |from: ServerId| {
            let (before, after) = (graph.farthest(from), without.farthest(from));
            after.0 == before.0 && after.1 <= before.1.max(DIAMETER_MAX)
        };
        if is_as_good(me) && is_as_good(it.server) {
            self.let_go(now, it);
        }
    }

    fn let_go(&mut self, now: Time, neighbour: Neighbour) {
        self.count("domain", "let_go");
        let other = self.best_but(now, neighbour.control);
        let disconnect = Disconnect { stays: true, neighbour: other };
        self.send(neighbour.control, Message::Disconnect(disconnect));
        self.links.close(now, neighbour.control);
        self.hellos.forget(neighbour.server);
        self.exchanges.forget(neighbour.server);
        self.tell_neighbours(now);
    }

    /// Those that have left us out of their neighbours.
    fn close_one_sided(&mut self, now: Time) {
        let patience = self.config.constants.look * LOOKS_TO_NAME;
        let names_me = |it: &Neighbour| {
            let uid = Uid { owner: it.server, kind: RecordKind::Neighbours, number: 0 };
            match self.records.get(&uid, now).map(|(record, _)| &record.body) {
                Some(Body::Neighbours(theirs)) => theirs.servers.contains(&self.config.me),
                Some(_) | None => false,
            }
        };
        let is_old =
            |it: &Neighbour| self.links.since(it.control).is_some_and(|since| now.since(since) >= patience);
        let one_sided: Vec<Neighbour> =
            self.links.up().map(|(it, _)| it).filter(|it| is_old(it) && !names_me(it)).collect();
        for it in one_sided {
            self.count("domain", "one_sided");
            self.let_go(now, it);
        }
    }
}
