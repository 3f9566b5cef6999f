//! Domains beside the one whose addresses we coordinate: the list of domains of a site, and others that an operator has joined
//! (R004.1–R004.4, R004.27; source 004 0054 to 0056, 0083 to 0087).
//!
//! ```text
//!                     list of domains "campus"
//!                     contact records: hall (child), lab (child)
//!                       /                          \
//!   boot network "hall"                             boot network "lab"
//!   contact records: campus (parent)                contact records: campus (parent)
//! ```
//! * The list is a domain like any other, of all servers of the site that name it in their configuration. Who is a member of it
//!   and of an open domain tells each of the two of the other by a contact record; [`CONTACTS_TOLD`] members do, those with
//!   the lowest ids.
//! * A domain is found by its name, whose hash is its id, or by the id alone, which a private one is drawn for and which
//!   nobody tells: first the configured contacts are asked, then those that flooded records name. Who is asked and is no
//!   member refuses, and names the members that it knows. The source leaves this to a name resolution protocol that is
//!   not part of it.
//! * All domains that can be reached are found by walking from each domain to its parents and children: as far as we are
//!   members.
//! * Boot networks' domains are listed, and nobody of another one is let in: whoever is a member there clears and divides
//!   addresses with the others. Domains that operators make are for notes.
//! * A contact that hears another lowest id than we do is cut off from us: after a random back-off it is asked to connect.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddrV4;

use driver::{Deadline, Draw, Time, Wall};
use wire::contact::{Contact, DomainName, Relation};
use wire::control::{Envelope, Message};
use wire::further::Further;
use wire::membership::{Neighbour, Refuse, RefuseReason};
use wire::note::About;
use wire::record::{Body, RecordKind};
use wire::{DomainId, ServerId};

use crate::domain::{Domain, DomainConfig, Output};
use crate::limits::{CONTACTS_TOLD, FURTHER_MAX, FURTHER_REST, MEMBER_LIVES, RELATE};

/// How domains are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Our own.
    pub own: DomainName,
    /// The list of domains of our site, if it has one.
    pub list: Option<DomainName>,
    /// Open ones of which we are a member as well.
    pub also: Vec<DomainName>,
}

impl Default for Named {
    /// A server that knows of no domain but its own.
    fn default() -> Self {
        Self { own: DomainName::cut("pxe"), list: None, also: Vec::new() }
    }
}

/// Why nothing was joined, or left. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchanged {
    /// We are a member already.
    Member,
    /// We are none.
    NoMember,
    /// There is one of that name.
    Exists,
    /// It is the domain in which this server coordinates addresses.
    Own,
    /// It is the domain in which others coordinate addresses: no server is a member of two of those.
    Coordinates,
    /// There are [`FURTHER_MAX`] already.
    TooMany,
}

/// A domain that we know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub domain: DomainId,
    /// Its name.
    pub name: DomainName,
    /// What it is to us.
    pub place: Place,
    /// How many members we hear or know by their records, ourselves among them; 0 if we are none.
    pub members: usize,
    /// Whether its members coordinate addresses: a boot network's.
    pub coordinates: bool,
    /// Where else it can be asked for.
    pub contacts: BTreeSet<SocketAddrV4>,
    /// The domains that are above it.
    pub parents: BTreeSet<DomainId>,
}

/// What a domain is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The one whose addresses we coordinate.
    Own,
    /// The list of domains of our site.
    List,
    /// We are a member.
    Member,
    /// We are a member, and nobody is told of it.
    Private,
    /// Others have told of it.
    Known,
}

impl Place {
    /// In one word, as operators are shown it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::List => "list",
            Self::Member => "member",
            Self::Private => "private",
            Self::Known => "known",
        }
    }
}

#[derive(Debug)]
struct Joined {
    name: DomainName,
    is_open: bool,
    domain: Domain,
}

/// The domains beside our own.
#[derive(Debug)]
pub struct Furthers {
    own: DomainConfig,
    own_name: DomainName,
    list: Option<DomainId>,
    joined: BTreeMap<DomainId, Joined>,
    look_at: Time,
    /// Who was told of when we last looked, for those that ask: few of each.
    known: BTreeMap<DomainId, Vec<Neighbour>>,
    /// Contacts of that domain hear another lowest id; it is looked at again then.
    differs: BTreeMap<DomainId, Time>,
    draw: Draw,
    out: VecDeque<(DomainId, Output)>,
}

impl Furthers {
    /// Joins the list of domains, if there is one, and the others.
    #[must_use]
    pub fn new(own: DomainConfig, named: Named, draw: Draw, now: Time) -> Self {
        let Named { own: own_name, list, also: others } = named;
        let mut furthers = Self {
            own,
            own_name,
            list: list.as_ref().map(id_of),
            joined: BTreeMap::new(),
            look_at: now,
            known: BTreeMap::new(),
            differs: BTreeMap::new(),
            draw,
            out: VecDeque::new(),
        };
        for name in list.into_iter().chain(others) {
            // What is named twice, or our own, is joined once.
            let _ = furthers.enter(now, id_of(&name), name, true);
        }
        furthers
    }

    /// One of them, if we are a member.
    #[must_use]
    pub fn get(&self, domain: DomainId) -> Option<&Domain> {
        self.joined.get(&domain).map(|it| &it.domain)
    }

    /// The same, to say something in it.
    pub fn get_mut(&mut self, domain: DomainId) -> Option<&mut Domain> {
        self.joined.get_mut(&domain).map(|it| &mut it.domain)
    }

    /// Those of which we are a member.
    pub fn iter(&self) -> impl Iterator<Item = (DomainId, &DomainName, &Domain)> {
        self.joined.iter().map(|(id, it)| (*id, &it.name, &it.domain))
    }

    /// We become a member. If nobody answers who is one, the domain is new.
    ///
    /// # Errors
    /// We are one, or of too many. Nothing has changed.
    pub fn join(
        &mut self,
        now: Time,
        domain: DomainId,
        name: DomainName,
        is_open: bool,
        own: &Domain,
    ) -> Result<(), Unchanged> {
        let contacts = self.contacts_of(domain, now, own);
        if domain != self.own.domain && contacts.iter().any(|(_, it)| it.coordinates) {
            return Err(Unchanged::Coordinates);
        }
        self.enter(now, domain, name, is_open)
    }

    fn enter(
        &mut self,
        now: Time,
        domain: DomainId,
        name: DomainName,
        is_open: bool,
    ) -> Result<(), Unchanged> {
        if domain == self.own.domain {
            return Err(Unchanged::Own);
        }
        if self.joined.contains_key(&domain) {
            return Err(Unchanged::Member);
        }
        if self.joined.len() >= FURTHER_MAX {
            return Err(Unchanged::TooMany);
        }
        let mut constants = self.own.constants;
        if self.list != Some(domain) {
            // Most servers are no members of it, and are asked for ever.
            constants.rest *= FURTHER_REST;
        }
        // Milliseconds since our start: more than were counted in it before, if we were a member.
        let began = u32::try_from(now.as_nanos() / 1_000_000).unwrap_or(u32::MAX / 2);
        let config = DomainConfig { domain, constants, began, ..self.own.clone() };
        let it = Domain::new(config, self.draw.fork(), now);
        self.joined.insert(domain, Joined { name, is_open, domain: it });
        self.look_at = now;
        self.drain(now);
        Ok(())
    }

    /// We are a member no more. Neighbours are told where to go.
    ///
    /// # Errors
    /// We are none, or it is our own. Nothing has changed.
    pub fn leave(&mut self, now: Time, domain: DomainId, own: &mut Domain) -> Result<(), Unchanged> {
        if domain == self.own.domain {
            return Err(Unchanged::Own);
        }
        let it = self.joined.get_mut(&domain).ok_or(Unchanged::NoMember)?;
        it.domain.on_stop(now);
        self.drain(now);
        self.joined.remove(&domain);
        self.differs.remove(&domain);
        for other in self.joined.values_mut().map(|it| &mut it.domain).chain([own]) {
            other.delete(now, RecordKind::Contact, number(domain));
        }
        self.drain(now);
        Ok(())
    }

    /// We end.
    pub fn on_stop(&mut self, now: Time) {
        self.joined.values_mut().for_each(|it| it.domain.on_stop(now));
        self.drain(now);
    }

    /// What the wall clock shows.
    pub fn on_wall(&mut self, now: Time, wall: Wall) {
        self.joined.values_mut().for_each(|it| it.domain.on_wall(now, wall));
    }

    /// Our author goes by another name.
    pub fn rename(&mut self, now: Time, author: &wire::note::Author) {
        self.own.author = author.clone();
        self.joined.values_mut().for_each(|it| it.domain.rename(now, author.clone()));
        self.drain(now);
    }

    // --- messages and time --------------------------------------------------------------------------------------

    /// Takes what is said in one of them. Gives why not, if it is for nobody here.
    ///
    /// # Errors
    /// We are no member; a connect is refused with those that we know.
    pub fn on_message(
        &mut self,
        now: Time,
        wall: Wall,
        from: SocketAddrV4,
        envelope: &Envelope,
        further: &Further,
    ) -> Result<(), &'static str> {
        let Some(it) = self.joined.get_mut(&further.domain) else {
            if let Message::Connect(connect) = &*further.message {
                let is_own = further.domain == self.own.domain;
                let known = self.known.get(&further.domain).filter(|_| connect.wants_list);
                let known = known.into_iter().flatten().filter(|it| it.server != envelope.sender);
                let neighbours = known.copied().collect();
                let reason = if is_own { RefuseReason::OtherDomain } else { RefuseReason::Full };
                let refuse = Refuse { domain: further.domain, reason, neighbours };
                self.out.push_back((further.domain, Output::Send(from, Message::Refuse(refuse))));
                return Ok(());
            }
            return Err("no_member");
        };
        let inner = Envelope { message: (*further.message).clone(), ..envelope.clone() };
        it.domain.on_message(now, wall, from, &inner);
        self.drain(now);
        Ok(())
    }

    /// When [`Self::on_timeout`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        let look = Deadline { at: self.look_at, why: "domains to be looked at" };
        let look = (!self.joined.is_empty()).then_some(look);
        self.joined.values().fold(look, |first, it| Deadline::earliest(first, it.domain.next_deadline()))
    }

    /// Time has passed. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Time, own: &mut Domain) {
        for it in self.joined.values_mut() {
            if it.domain.next_deadline().is_some_and(|due| due.at <= now) {
                it.domain.on_timeout(now);
            }
        }
        if self.look_at <= now && !self.joined.is_empty() {
            self.look_at = now + RELATE;
            self.relate(now, own);
            self.known = self.told_of(now, own);
            self.reach_out(now, own);
        }
        self.drain(now);
    }

    fn drain(&mut self, now: Time) {
        for (id, it) in &mut self.joined {
            while let Some(output) = it.domain.poll_output(now) {
                self.out.push_back((*id, output));
            }
        }
    }

    /// Takes the oldest output, with the domain in which it is to be said.
    pub fn poll_output(&mut self, now: Time) -> Option<(DomainId, Output)> {
        if self.out.is_empty() {
            self.drain(now);
        }
        self.out.pop_front()
    }

    // --- who is related with whom -------------------------------------------------------------------------------

    /// Tells the list of our open domains, and them of the list.
    fn relate(&mut self, now: Time, own: &mut Domain) {
        let me = self.own.me;
        let Some(list) = self.list.filter(|it| self.joined.contains_key(it)) else { return };
        let Some(mut above) = self.joined.remove(&list) else { return };
        let control = self.own.control;
        let own_id = self.own.domain;
        let about = |domain: DomainId, relation, of: &Domain, name: &DomainName| {
            let (lowest, name) = (of.lowest().lowest, name.clone());
            Contact { domain, relation, coordinates: domain == own_id, control, lowest, name }
        };
        let others = self.joined.iter_mut().filter(|(_, it)| it.is_open);
        let others = others.map(|(id, it)| (*id, &it.name, &mut it.domain));
        let is_told = |above: &Domain, id| {
            // Some other server coordinates addresses in it: it is no place for notes, and not ours to tell of.
            let told = above.records().of_kind(RecordKind::Contact, now);
            let mut told = told.filter_map(|(record, _)| contact_of(&record.body));
            id == own_id || !told.any(|it| it.domain == id && it.coordinates)
        };
        for (id, name, domain) in others.chain([(self.own.domain, &self.own_name, own)]) {
            if !is_told(&above.domain, id) {
                above.domain.delete(now, RecordKind::Contact, number(id));
                continue;
            }
            if domain.lowest().version == 0 || above.domain.lowest().version == 0 {
                // It has only just begun, and we are no measure.
                continue;
            }
            tell(now, me, &mut above.domain, about(id, Relation::Child, domain, name));
            tell(now, me, domain, about(list, Relation::Parent, &above.domain, &above.name));
        }
        self.joined.insert(list, above);
    }

    /// What the contact records in all our domains say, of owners that live there.
    fn told<'a>(&'a self, now: Time, own: &'a Domain) -> impl Iterator<Item = (ServerId, &'a Contact)> {
        let all = self.joined.values().map(|it| &it.domain).chain([own]);
        all.flat_map(move |domain| {
            let told = domain.records().of_kind(RecordKind::Contact, now);
            let told = told.filter_map(|(record, _)| Some((record.uid.owner, contact_of(&record.body)?)));
            told.filter(move |(owner, _)| *owner != self.own.me && domain.is_living(now, *owner))
        })
    }

    /// What they say of that one, each owner once.
    fn contacts_of(&self, domain: DomainId, now: Time, own: &Domain) -> Vec<(ServerId, Contact)> {
        let told = self.told(now, own).filter(|(_, it)| it.domain == domain);
        let found: BTreeMap<ServerId, &Contact> = told.collect();
        found.into_iter().map(|(owner, it)| (owner, it.clone())).collect()
    }

    /// Few of each domain.
    fn told_of(&self, now: Time, own: &Domain) -> BTreeMap<DomainId, Vec<Neighbour>> {
        let mut known: BTreeMap<DomainId, Vec<Neighbour>> = BTreeMap::new();
        for (server, it) in self.told(now, own) {
            if known.len() >= LISTED_MAX && !known.contains_key(&it.domain) {
                continue;
            }
            let of_it = known.entry(it.domain).or_default();
            if of_it.len() < CONTACTS_TOLD && of_it.iter().all(|other| other.server != server) {
                of_it.push(Neighbour { server, control: it.control });
            }
        }
        known
    }

    /// Asks contacts that are cut off from us: those that hear another lowest id, and all while we are alone.
    fn reach_out(&mut self, now: Time, own: &mut Domain) {
        let ids: Vec<DomainId> = self.joined.keys().copied().chain([self.own.domain]).collect();
        for id in ids {
            let mut contacts = self.contacts_of(id, now, own);
            // A boot network's, of a server that knows nothing of addresses there, or the other way round: a mistake.
            contacts.retain(|(_, it)| it.coordinates == (id == self.own.domain));
            let domain = match self.joined.get_mut(&id) {
                Some(it) => &mut it.domain,
                None => &mut *own,
            };
            let heard = domain.lowest();
            if domain.living(now).next().is_none() && domain.links().is_empty() {
                contacts.iter().take(CONTACTS_TOLD).for_each(|(_, it)| domain.ask(now, it.control));
                continue;
            }
            // R004.27: of several the one with the lowest.
            let differs =
                |it: &Contact| heard.version != 0 && it.lowest != heard.lowest && domain.may_ask(it.control);
            let differs = contacts.iter().filter(|(_, it)| differs(it));
            let Some((_, first)) = differs.min_by_key(|(_, it)| it.lowest) else {
                self.differs.remove(&id);
                continue;
            };
            let cap = self.own.constants.cap;
            let due = *self.differs.entry(id).or_insert_with(|| now + cap + self.draw.jitter(cap));
            if due <= now {
                self.differs.remove(&id);
                domain.ask(now, first.control);
            }
        }
    }

    /// All domains that can be reached: from ours to their parents and children, and on as far as we are members.
    #[must_use]
    pub fn walk(&self, now: Time, own: &Domain) -> Vec<Listed> {
        let mut found: BTreeMap<DomainId, Listed> = BTreeMap::new();
        let ours = self.joined.iter().map(|(id, it)| {
            let place = match it.is_open {
                _ if self.list == Some(*id) => Place::List,
                true => Place::Member,
                false => Place::Private,
            };
            (*id, &it.name, place, &it.domain)
        });
        let ours: Vec<_> = ours.chain([(self.own.domain, &self.own_name, Place::Own, own)]).collect();
        for (id, name, place, domain) in &ours {
            let members = domain.records().of_kind(RecordKind::Member, now).count();
            let (contacts, parents) = (BTreeSet::new(), BTreeSet::new());
            let (name, coordinates) = ((*name).clone(), *place == Place::Own);
            let listed = Listed { domain: *id, name, place: *place, members, coordinates, contacts, parents };
            found.insert(*id, listed);
        }
        for (id, _, _, domain) in &ours {
            let told = domain.records().of_kind(RecordKind::Contact, now);
            for contact in told.filter_map(|(record, _)| contact_of(&record.body)) {
                if !found.contains_key(&contact.domain) && found.len() >= LISTED_MAX {
                    continue;
                }
                let it = found.entry(contact.domain).or_insert_with(|| Listed {
                    domain: contact.domain,
                    name: contact.name.clone(),
                    place: Place::Known,
                    members: 0,
                    coordinates: contact.coordinates,
                    contacts: BTreeSet::new(),
                    parents: BTreeSet::new(),
                });
                it.contacts.insert(contact.control);
                let (child, parent) = match contact.relation {
                    Relation::Child => (contact.domain, *id),
                    Relation::Parent => (*id, contact.domain),
                };
                if let Some(child) = found.get_mut(&child) {
                    child.parents.insert(parent);
                }
            }
        }
        found.into_values().collect()
    }

    /// We have made a domain: those who read the list are told.
    pub fn tell_of_new(&mut self, now: Time, name: &DomainName) {
        let list = self.list.and_then(|list| self.joined.get_mut(&list));
        if let Some(list) = list {
            list.domain.tell_people(now, About::Domain, &format!("the domain {name} is new"));
        }
        self.drain(now);
    }
}

/// Domains shown at once; a forger may invent more.
const LISTED_MAX: usize = 1024;

/// The id of an open domain.
#[must_use]
pub fn id_of(name: &DomainName) -> DomainId {
    DomainId::of(&name.to_string())
}

/// The number of the contact record of that domain.
fn number(domain: DomainId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = domain.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Of a body: the contact, if its name is that of its domain. Any other name is a lie.
fn contact_of(body: &Body) -> Option<&Contact> {
    let Body::Contact(contact) = body else { return None };
    (id_of(&contact.name) == contact.domain).then_some(contact)
}

/// Tells the members of `domain` of another one, unless others do who go before us, or we have just come and hear nobody yet.
fn tell(now: Time, me: ServerId, domain: &mut Domain, contact: Contact) {
    let number = number(contact.domain);
    let told = domain.records().of_kind(RecordKind::Contact, now);
    let tellers =
        told.filter(|(record, _)| contact_of(&record.body).is_some_and(|it| it.domain == contact.domain));
    let tellers: BTreeSet<ServerId> = tellers.map(|(record, _)| record.uid.owner).collect();
    if tellers.range(..me).count() >= CONTACTS_TOLD {
        domain.delete(now, RecordKind::Contact, number);
    } else if tellers.contains(&me) || domain.is_settled(now) {
        domain.put(now, RecordKind::Contact, number, MEMBER_LIVES, Body::Contact(contact));
    }
}

#[cfg(test)]
mod tests;
