//! How a member is let in, and how it leaves: connect, welcome, refuse, disconnect (R004.5–R004.9).

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use driver::Time;
use wire::ServerId;
use wire::control::Message;
use wire::membership::{Connect, Disconnect, NEIGHBOURS_MAX, Neighbour, Refuse, RefuseReason, Welcome};

use super::{Domain, News, Output};
use crate::limits::{LINKS_IDEAL, LINKS_MIN};

impl Domain {
    pub(super) fn connect(&mut self, to: SocketAddrV4) {
        let connect = Connect { domain: self.config.domain, wants_list: true };
        self.count("domain", "connect");
        self.send(to, Message::Connect(connect));
    }

    /// Whether somebody there can be asked to connect: it is neither on our link, nor a neighbour.
    #[must_use]
    pub fn may_ask(&self, control: SocketAddrV4) -> bool {
        !self.is_on_link(control) && !self.links.is_up(control)
    }

    /// Somebody there may be cut off from us: it is asked to connect.
    pub fn ask(&mut self, now: Time, control: SocketAddrV4) {
        if self.may_ask(control) {
            self.links.ask(now, control);
        }
    }

    pub(super) fn on_connect(&mut self, now: Time, from: SocketAddrV4, sender: ServerId, connect: &Connect) {
        self.count("domain", "connect_heard");
        let domain = self.config.domain;
        let refuse = |reason, neighbours| Message::Refuse(Refuse { domain, reason, neighbours });
        if connect.domain != domain {
            return self.send(from, refuse(RefuseReason::OtherDomain, Vec::new()));
        }
        if self.is_on_link(from) {
            // Everybody on the link is a neighbour by multicast, once its hello is heard.
            return self.send(from, Message::Welcome(Welcome { domain }));
        }
        let was_up = self.links.is_up(from);
        if !self.links.open(now, from, sender) {
            let list = if connect.wants_list { self.neighbours(now, sender) } else { Vec::new() };
            return self.send(from, refuse(RefuseReason::Full, list));
        }
        self.send(from, Message::Welcome(Welcome { domain }));
        if !was_up {
            self.tell_neighbours(now);
            self.out.push_back(Output::Tell(News::Linked(from)));
        }
    }

    /// Where else a server may connect.
    fn neighbours(&self, now: Time, but: ServerId) -> Vec<Neighbour> {
        let living = self.living(now).map(|peer| Neighbour { server: peer.server, control: peer.control });
        let all: BTreeMap<ServerId, Neighbour> =
            self.links.up().map(|(it, _)| it).chain(living).map(|it| (it.server, it)).collect();
        all.into_values().filter(|it| it.server != but).take(NEIGHBOURS_MAX).collect()
    }

    pub(super) fn on_welcome(&mut self, now: Time, from: SocketAddrV4, sender: ServerId, welcome: &Welcome) {
        if welcome.domain != self.config.domain {
            return self.count("dropped.domain", "other_domain");
        }
        if self.is_on_link(from) {
            if !self.asked.contains(&sender) || self.welcome {
                return self.count("dropped.domain", "needless_welcome");
            }
            self.welcome = true;
            self.asked.clear();
            // What we said before our hello was heard was a stranger's word.
            let own = self.records.own(now);
            self.pass_on(now, &own, None);
        } else {
            if !self.links.is_asked(from) || !self.links.open(now, from, sender) {
                return self.count("dropped.domain", "needless_welcome");
            }
            self.tell_neighbours(now);
            self.out.push_back(Output::Tell(News::Linked(from)));
        }
        self.exchanges.begin_with(now, sender);
        self.begin_exchange(now, from);
    }

    pub(super) fn on_refuse(&mut self, now: Time, from: SocketAddrV4, sender: ServerId, refuse: &Refuse) {
        self.count("domain", "refused");
        self.asked.remove(&sender);
        if refuse.domain == self.config.domain {
            let me = self.config.me;
            let beyond = |it: &&Neighbour| it.server != me && !self.is_on_link(it.control);
            let others: Vec<SocketAddrV4> =
                refuse.neighbours.iter().filter(beyond).map(|it| it.control).collect();
            self.links.on_refuse(now, from, others, &mut self.draw);
        }
    }

    pub(super) fn on_disconnect(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        sender: ServerId,
        disconnect: &Disconnect,
    ) {
        let was_up = self.links.is_up(from);
        if disconnect.stays && !was_up {
            return self.count("dropped.domain", "needless_disconnect");
        }
        self.hellos.forget(sender);
        self.exchanges.forget(sender);
        self.links.close(now, from);
        self.tell_neighbours(now);
        if disconnect.stays {
            self.count("domain", "let_go_by_other");
        } else {
            self.on_left(now, sender);
            self.left = Some((from, now));
            self.out.push_back(Output::Tell(News::Left(from)));
        }
        // Who has enough without it makes none in its place; one that was let go had better not pass the surplus on.
        let enough = if disconnect.stays { LINKS_MIN } else { LINKS_IDEAL };
        if let Some(other) = disconnect.neighbour.filter(|it| it.server != self.config.me)
            && was_up
            && self.links.len() < enough
            && !self.is_on_link(other.control)
        {
            self.links.ask(now, other.control);
        }
    }
}
