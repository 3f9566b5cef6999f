//! Clients ask what to load; each is answered once its answer is true (R003.2, R003.21).
//!
//! ```text
//!            answer ready                       answered
//! asked ──────────────────────────────────────────►
//!   │ an address is being cleared, a file asked for   ▲
//!   ▼                                                 │ ready, or patience over and plain TFTP will do
//! waiting ── a repeat replaces the request ──► waiting┘
//!   │ patience over and no server has the file
//!   ▼ silence
//! ```
//! A request that all boot servers heard all work out, and its responder answers (`responding`). The others keep it for as
//! long as the client waits: *waiting*, ready or not, until they are the responder, or the client asks again.
//!
//! Waiting is silence: PXE has no reply that says *wait* (pxe.md A.7). Only who says that it understands our wait packet
//! gets one (R003.14): when it begins to wait, at each of its repeats, and at each conflict that the clearing meets.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use driver::{Arrival, Role, Time};
use peers::responder::Place;
use wire::control::Message;
use wire::dhcp::{BootRequest, BootWait};
use wire::pxe::BootItem;
use wire::tftp::MTFTP_FILE_SIZE_MAX;
use wire::told::Told;
use wire::{Content, GroupAddr, Layer, Mac, ServerType, Uuid};

use super::answer::{Answer, MulticastOffer};
use super::catalog::{Boot, Found, Item, Profile, understands_wait};
use super::claims::{ClaimKey, State};
use super::event::{Event, Offer, WhyPlain, WhySilent};
use super::files::Knowledge;
use super::{Engine, Timer};
use crate::limits::{
    CLIENT_PATIENCE, CLIENTS_WAITING_MAX, FILE_ACK_MAX, REPEAT_AFTER, WAIT_SECONDS, WAITING_PATIENCE,
};

/// Who asks for what. Never the transaction id: iPXE's is always 0, others change it (pxe.md A.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientKey {
    mac: Mac,
    uuid: Option<Uuid>,
    server_type: ServerType,
    layer: Layer,
}

/// A client that waits, with its newest request.
#[derive(Debug, Clone)]
struct Waiting {
    request: BootRequest,
    wanted: BootItem,
    from: SocketAddrV4,
    role: Role,
    first_at: Time,
    /// All boot servers of the link have heard it, not we alone.
    by_all: bool,
    /// How often the client has asked again.
    repeats: usize,
    /// It was told to wait, if it understands that.
    told: bool,
}

impl Waiting {
    /// How often it has asked again, with a request that comes now: copies of one come at once.
    fn repeats_at(&self, now: Time) -> usize {
        let is_repeat =
            now.since(self.first_at) >= REPEAT_AFTER * u32::try_from(self.repeats + 1).unwrap_or(u32::MAX);
        self.repeats + usize::from(is_repeat)
    }
}

/// The clients that wait.
#[derive(Debug, Default)]
pub struct Clients(BTreeMap<ClientKey, Waiting>);

impl Clients {
    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a request comes to, as things stand.
enum Decision {
    Answer(Box<Ready>),
    Wait,
    Silence(WhySilent),
}

struct Ready {
    answer: Answer,
    offer: Offer,
    claim: Option<ClaimKey>,
}

/// How the multicast file of an answer stands.
enum Multicast {
    Held(ClaimKey, MulticastOffer, GroupAddr),
    Soon,
    Not(WhyPlain),
}

impl Engine {
    pub(super) fn on_discovery(&mut self, now: Time, arrival: &Arrival<'_>) {
        let source = *arrival.from.ip();
        if source.is_unspecified()
            || source.is_multicast()
            || source.is_broadcast()
            || arrival.from.port() == 0
        {
            return self.counters.add("dropped.discovery", "source", 1);
        }
        let request = match BootRequest::decode(arrival.bytes) {
            Ok(request) => request,
            Err(error) => return self.counters.add("dropped.discovery", error.kind.name(), 1),
        };
        self.counters.add("discovery", "heard", 1);
        if self.slices.leaves {
            return self.counters.add("discovery", "leaving", 1);
        }
        // Without option 43 it is meant for a proxy DHCP server (pxe.md H); without tag 71 it is type 0, layer 0.
        let Some(vendor) = &request.vendor else { return self.counters.add("discovery", "not_for_us", 1) };
        let nothing = BootItem { server_type: ServerType(0), layer: Layer(0) };
        let wanted = vendor.boot_item.unwrap_or(nothing);
        let catalog = Arc::clone(&self.config.catalog);
        let Some(found) = catalog.find(&request, wanted) else {
            return self.counters.add("discovery", "unmatched", 1);
        };
        let uuid = request.uuid.filter(|uuid| !uuid.identifies_nobody());
        let key = ClientKey { mac: request.mac, uuid, server_type: wanted.server_type, layer: wanted.layer };
        let by_all =
            arrival.role == Role::Broadcast || arrival.to.is_multicast() || arrival.to.is_broadcast();
        let (first_at, repeats) = match self.clients.0.remove(&key) {
            Some(waiting) => {
                self.counters.add("discovery", "repeated", 1);
                self.timers.disarm(&Timer::Client(key));
                (waiting.first_at, waiting.repeats_at(now))
            }
            None if self.clients.0.len() >= CLIENTS_WAITING_MAX => {
                return self.counters.add("dropped.discovery", "too_many", 1);
            }
            None => (now, 0),
        };
        let (from, role) = (arrival.from, arrival.role);
        let waiting = Waiting { request, wanted, from, role, first_at, by_all, repeats, told: false };
        if !self.is_ours(&waiting) {
            self.counters.add("discovery", "stood_by", 1);
        } else if first_at == now {
            let item = Arc::clone(&found.item.name);
            self.tell(Event::Asked { mac: waiting.request.mac, client: source, item });
        }
        self.serve_found(now, key, waiting, Some(found), true);
    }

    /// Answers, or keeps the client waiting.
    fn serve(&mut self, now: Time, key: ClientKey, waiting: Waiting, may_wait: bool) {
        let catalog = Arc::clone(&self.config.catalog);
        let found = catalog.find(&waiting.request, waiting.wanted);
        self.serve_found(now, key, waiting, found, may_wait);
    }

    /// The same, with what the catalog has for it.
    fn serve_found(
        &mut self,
        now: Time,
        key: ClientKey,
        mut waiting: Waiting,
        found: Option<Found<'_>>,
        may_wait: bool,
    ) {
        let is_ours = self.is_ours(&waiting);
        let item = || found.map(|found| Arc::clone(&found.item.name)).unwrap_or_default();
        match self.decide(now, &waiting, found, may_wait) {
            _ if !is_ours && !may_wait => {
                self.forget_client(&key);
                self.counters.add("discovery", "left_to_responder", 1);
            }
            Decision::Answer(ready) if is_ours => {
                self.forget_client(&key);
                self.reply(now, &waiting, *ready, item());
            }
            // That we have no answer says nothing about whoever is to give it.
            Decision::Silence(why) if is_ours => {
                self.forget_client(&key);
                self.counters.add("discovery", "unanswered", 1);
                self.tell(Event::Unanswered { mac: waiting.request.mac, item: item(), why });
            }
            Decision::Answer(_) | Decision::Wait | Decision::Silence(_) => {
                let understands = understands_wait(&waiting.request);
                // It may have become ours only now.
                if is_ours && understands && !waiting.told {
                    self.say_wait(&waiting);
                    waiting.told = true;
                }
                let until = waiting.first_at + if understands { WAITING_PATIENCE } else { CLIENT_PATIENCE };
                self.timers.arm(Timer::Client(key), until, "a client's patience ends");
                self.clients.0.insert(key, waiting);
            }
        }
    }

    /// Whether we are the one to answer: it asked us alone, or we are its responder, or it asks again and we are next.
    fn is_ours(&self, waiting: &Waiting) -> bool {
        !waiting.by_all
            || match self.place(&waiting.request, waiting.wanted) {
                Place::Responder => true,
                Place::Standby(before) => before < waiting.repeats,
            }
    }

    /// The wait packet: the client neither polls nor gives up.
    fn say_wait(&mut self, waiting: &Waiting) {
        let wait = BootWait {
            xid: waiting.request.xid,
            yiaddr: client_address(waiting),
            mac: waiting.request.mac,
            boot_server: self.config.address,
            uuid: waiting.request.uuid,
            boot_item: waiting.wanted,
            seconds: WAIT_SECONDS,
        };
        if let Ok(bytes) = wait.encode() {
            self.counters.add("discovery", "wait", 1);
            self.send(waiting.role, waiting.from, bytes);
        }
    }

    /// The clearing for this claim has met a conflict: who waits for it waits longer (R003.14).
    pub(super) fn say_wait_again(&mut self, key: &ClaimKey) {
        let wants = |waiting: &&Waiting| {
            let found = self.config.catalog.find(&waiting.request, waiting.wanted);
            understands_wait(&waiting.request)
                && self.is_ours(waiting)
                && found.is_some_and(|found| {
                    found.boot.multicast.as_ref() == Some(&key.content.file)
                        && found.boot.pinned == key.pinned
                        && found.boot.servers.contains(&key.content.server)
                })
        };
        let waiting: Vec<Waiting> = self.clients.0.values().filter(wants).cloned().collect();
        for waiting in waiting {
            self.say_wait(&waiting);
        }
    }

    /// Whoever does not wait has no timer.
    fn forget_client(&mut self, key: &ClientKey) {
        if self.clients.0.remove(key).is_some() {
            self.timers.disarm(&Timer::Client(*key));
        }
    }

    /// Something changed that clients may wait for who want that.
    pub(super) fn serve_waiting_clients(&mut self, now: Time, that: impl Fn(BootItem) -> bool) {
        let waiting = self.clients.0.iter().filter(|(_, waiting)| that(waiting.wanted));
        let keys: Vec<ClientKey> = waiting.map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(waiting) = self.clients.0.get(&key).cloned() {
                self.serve(now, key, waiting, true);
            }
        }
    }

    pub(super) fn on_patience_over(&mut self, now: Time, key: &ClientKey) {
        if let Some(waiting) = self.clients.0.remove(key) {
            self.serve(now, *key, waiting, false);
        }
    }

    fn decide(&mut self, now: Time, waiting: &Waiting, found: Option<Found<'_>>, may_wait: bool) -> Decision {
        let Some(Found { item, boot, profile }) = found else {
            return Decision::Silence(WhySilent::NoServer);
        };
        let Some(server) = self.choose(now, boot) else {
            self.hurry_files(now, boot);
            let hope = may_wait && !self.is_hopeless(boot);
            return if hope { Decision::Wait } else { Decision::Silence(WhySilent::NoServer) };
        };
        let (multicast, offer, claim) = match self.multicast(now, waiting, item, boot, profile, server) {
            Multicast::Held(key, multicast, group) => (Some(multicast), Offer::Multicast(group), Some(key)),
            Multicast::Soon if may_wait => return Decision::Wait,
            Multicast::Soon => {
                (self.plain_file(now, boot, server), Offer::PlainTftp(WhyPlain::NotHeldInTime), None)
            }
            Multicast::Not(why) => (self.plain_file(now, boot, server), Offer::PlainTftp(why), None),
        };
        let answer = Answer {
            boot_server: self.config.address,
            file_server: server,
            boot_item: BootItem { server_type: waiting.wanted.server_type, layer: item.boot_item.layer },
            file: boot.file.clone(),
            profile,
            multicast,
        };
        Decision::Answer(Box::new(Ready { answer, offer, claim }))
    }

    /// How the client can have the multicast file; asks for its claim where there is none.
    fn multicast(
        &mut self,
        now: Time,
        waiting: &Waiting,
        item: &Item,
        boot: &Boot,
        profile: Profile,
        server: Ipv4Addr,
    ) -> Multicast {
        let usable = match (boot.multicast.is_some(), profile) {
            (false, _) | (_, Profile::Tftp) => Err(WhyPlain::ByProfile),
            (true, Profile::Ipxe) if !boot.pinned => Err(WhyPlain::ByProfile),
            (true, Profile::PxeRom | Profile::MtftpGet) if boot.profile != profile || boot.pinned => {
                Err(WhyPlain::ByProfile)
            }
            // Intel's client takes the sender of the answer for its file server (pxe.md A.8).
            (true, Profile::PxeRom) if server != self.config.address => Err(WhyPlain::FileElsewhere),
            (true, _) if !self.is_on_link(waiting) => Err(WhyPlain::OffLink),
            (true, _) if self.is_too_large(boot, profile, server) => Err(WhyPlain::TooLarge),
            (true, _) => Ok(()),
        };
        if let Err(why) = usable {
            return Multicast::Not(why);
        }
        let Some(wanted) = self.wanted_of(now, item, boot, server) else {
            return Multicast::Not(WhyPlain::NoMulticastFile);
        };
        // The responder alone makes the claim, and whoever stands by shares it (R001.3).
        let claims = self.is_ours(waiting) || self.shareable(now, &wanted.key).is_some();
        if !claims && self.claims.get(&wanted.key).is_none() {
            return Multicast::Soon;
        }
        if self.is_joining(now) {
            // Another member may have the content, or the address (G24).
            if self.is_rechecked(&wanted.key) {
                self.want(now, &wanted, true);
            }
            return Multicast::Soon;
        }
        if self.is_ours(waiting) || self.claims.get(&wanted.key).is_none() {
            self.want(now, &wanted, true);
        }
        let key = wanted.key;
        if self.is_disputed(&key) {
            return Multicast::Not(WhyPlain::Disputed);
        }
        match self.claims.get(&key).map(|claim| &claim.state) {
            Some(State::Held { commitment, acked_at, .. }) if now.since(*acked_at) < FILE_ACK_MAX => {
                let at = commitment.at;
                let offer = MulticastOffer::Held { file: key.content.file.clone(), at };
                Multicast::Held(key, offer, at.group)
            }
            Some(State::Waiting { soon: true, .. }) => Multicast::Soon,
            Some(State::Waiting { soon: false, .. }) | None => Multicast::Not(WhyPlain::Refused),
            Some(State::Held { .. } | State::Draining { .. }) => Multicast::Not(WhyPlain::NotHeldInTime),
            Some(
                State::Clearing { .. }
                | State::Rechecking { .. }
                | State::Recording { .. }
                | State::Configuring { .. },
            ) => Multicast::Soon,
        }
    }

    /// Whether this client cannot be sent the multicast file for its size: firmware speaks PXE-MTFTP only, `mtftp-get`
    /// takes larger files by RFC 2090.
    fn is_too_large(&self, boot: &Boot, profile: Profile, server: Ipv4Addr) -> bool {
        let Some(file) = boot.multicast.clone() else { return false };
        let key = ClaimKey { content: Content { server, file }, pinned: boot.pinned };
        let size = self.files.size(&key.content).unwrap_or(0);
        self.files.too_large(&key).is_some() || (profile == Profile::PxeRom && size > MTFTP_FILE_SIZE_MAX)
    }

    /// The multicast file by plain TFTP, if the server has it.
    fn plain_file(&self, now: Time, boot: &Boot, server: Ipv4Addr) -> Option<MulticastOffer> {
        let file = boot.multicast.clone()?;
        let content = Content { server, file };
        self.files.is_fresh(now, &content).then_some(MulticastOffer::Plain { file: content.file })
    }

    /// Relayed clients, and those with an address outside our prefix, hear no multicast of TTL 1.
    fn is_on_link(&self, waiting: &Waiting) -> bool {
        self.config.is_on_link(client_address(waiting)) && waiting.request.giaddr.is_unspecified()
    }

    /// Files nobody has acknowledged lately are asked for at once, not at their next turn.
    fn hurry_files(&mut self, now: Time, boot: &Boot) {
        for server in &boot.servers {
            for file in boot.files() {
                let content = Content { server: *server, file: file.clone() };
                if !self.files.is_fresh(now, &content) {
                    self.ask_file(now, &content);
                }
            }
        }
    }

    /// Every server has refused a file the client needs: waiting will not help.
    fn is_hopeless(&self, boot: &Boot) -> bool {
        boot.servers.iter().all(|server| {
            boot.files().any(|file| {
                let content = Content { server: *server, file: file.clone() };
                self.files.of(&content) == Some(Knowledge::Refused)
            })
        })
    }

    /// The file server may expect this client on the address: it reports who fetches otherwise. Nobody answers it, and the
    /// client loses nothing if it is lost, or held back.
    fn tell_file_server(&mut self, now: Time, server: Ipv4Addr, told: impl FnOnce() -> Told) {
        let Some(to) = self.config.catalog.control_of(server) else { return };
        if !self.tells.allows(now, server) {
            return self.counters.add("told", "held_back", 1);
        }
        self.counters.add("told", "sent", 1);
        self.send_control(to, Message::Told(told()));
    }

    fn reply(&mut self, now: Time, waiting: &Waiting, ready: Ready, item: Arc<str>) {
        let Ready { answer, offer, claim } = ready;
        let mac = waiting.request.mac;
        let client = client_address(waiting);
        match answer.to_reply(&waiting.request, client).encode() {
            Ok(bytes) => {
                // First, so that it is there before the client is.
                if let Some(MulticastOffer::Held { file, at }) = &answer.multicast {
                    let group = at.group;
                    self.tell_file_server(now, answer.file_server, || Told {
                        group,
                        client,
                        mac,
                        file: file.clone(),
                    });
                }
                self.send(waiting.role, waiting.from, bytes);
            }
            Err(_) => {
                self.counters.add("discovery", "unanswered", 1);
                return self.tell(Event::Unanswered { mac, item, why: WhySilent::TooLong });
            }
        }
        if let Some(claim) = claim.and_then(|key| self.claims.get_mut(&key)) {
            claim.told_at = Some(now);
        }
        let how = match offer {
            Offer::Multicast(_) => "answered.multicast",
            Offer::PlainTftp(_) => "answered.plain",
        };
        self.counters.add("discovery", how, 1);
        let waited = now.since(waiting.first_at);
        self.tell(Event::Answered { mac, item, file_server: answer.file_server, offer, waited });
    }
}

/// The client's address: it must stand in ciaddr; a client that leaves it out is known by its source.
fn client_address(waiting: &Waiting) -> Ipv4Addr {
    let ciaddr = waiting.request.ciaddr;
    if ciaddr.is_unspecified() { *waiting.from.ip() } else { ciaddr }
}
