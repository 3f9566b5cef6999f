//! What operators say to each other, and in which domains ([`peers::further`]).

use driver::{Draw, Time};
use peers::domain::{Domain, DomainConfig, Output, Told};
use peers::further::{Furthers, Listed, Named, Unchanged, id_of};
use peers::notes::NotWritten;
use wire::DomainId;
use wire::contact::DomainName;
use wire::control::{Envelope, Message};
use wire::further::Further;
use wire::note::{Author, Words};

use super::Engine;

/// The domains beside ours. They draw on their own, so that who is a member of none draws as ever.
pub(super) fn furthers(own: &DomainConfig, named: Named, now: Time) -> Furthers {
    let seed = own
        .me
        .0
        .iter()
        .fold(u64::from(own.boot_epoch.0), |seed, byte| seed.rotate_left(8) ^ u64::from(*byte));
    Furthers::new(own.clone(), named, Draw::from_seed(seed), now)
}

impl Engine {
    /// A message of a domain beside our own.
    pub(super) fn on_further(
        &mut self,
        now: Time,
        from: std::net::SocketAddrV4,
        envelope: &Envelope,
        further: &Further,
    ) {
        let wall = self.wall_at(now);
        let taken = self.furthers.on_message(now, wall, from, envelope, further);
        if let Err(why) = taken {
            self.counters.add("further", why, 1);
        }
    }

    pub(super) fn serve_furthers(&mut self, now: Time) {
        let wall = self.wall_at(now);
        self.furthers.on_wall(now, wall);
        while let Some((domain, output)) = self.furthers.poll_output(now) {
            match output {
                Output::Send(to, message) => {
                    let further = Further { domain, message: Box::new(message) };
                    self.send_control(to, Message::Further(further));
                }
                Output::Count(_, what) => self.counters.add("further", what, 1),
                // Notes tell people of it.
                Output::Tell(_) => {}
            }
        }
    }

    /// The domain that an operator means: one of ours by its name, else by the 32 hexadecimal digits of its id, else the open one
    /// of that name. `None` if no domain can have that name.
    #[must_use]
    pub fn domain_named(&self, text: &str) -> Option<DomainId> {
        let ours = self.furthers.iter().find(|(_, name, _)| name.to_string() == text).map(|(id, ..)| id);
        let of_name = || DomainName::new(text).ok().map(|name| id_of(&name));
        ours.or_else(|| text.parse().ok()).or_else(of_name)
    }

    fn member_of(&mut self, domain: Option<DomainId>) -> Option<&mut Domain> {
        match domain {
            Some(id) if id != self.config.domain => self.furthers.get_mut(id),
            _ => Some(&mut self.domain),
        }
    }

    /// An operator says this in a domain, ours if none is named, for so many seconds.
    ///
    /// # Errors
    /// Why not; nothing was said. `None`: we are no member of that domain.
    pub fn write_note(
        &mut self,
        now: Time,
        domain: Option<DomainId>,
        words: Words,
        lives: u16,
    ) -> Result<(), Option<NotWritten>> {
        let wall = self.wall_at(now);
        let said = self.member_of(domain).ok_or(None)?.say(now, wall, words, lives).map_err(Some);
        self.settle(now);
        said
    }

    /// The notes of a domain, ours if none is named, the oldest first; `None` if we are no member.
    #[must_use]
    pub fn notes(&mut self, now: Time, domain: Option<DomainId>) -> Option<Vec<Told>> {
        Some(self.member_of(domain)?.notes(now))
    }

    /// We go by another name in notes.
    pub fn rename(&mut self, now: Time, author: Author) {
        self.furthers.rename(now, &author);
        self.domain.rename(now, author);
        self.settle(now);
    }

    /// The name that we go by in notes.
    #[must_use]
    pub fn author(&self) -> &Author {
        self.domain.author()
    }

    /// All domains that can be reached.
    #[must_use]
    pub fn domains(&self, now: Time) -> Vec<Listed> {
        self.furthers.walk(now, &self.domain)
    }

    /// We become a member of a domain. `id` is that of a private one.
    ///
    /// # Errors
    /// Why not; nothing has changed.
    pub fn join_domain(
        &mut self,
        now: Time,
        name: DomainName,
        id: Option<DomainId>,
    ) -> Result<(), Unchanged> {
        let is_open = id.is_none();
        let id = id.unwrap_or_else(|| id_of(&name));
        let joined = self.furthers.join(now, id, name, is_open, &self.domain);
        self.settle(now);
        joined
    }

    /// We make a domain, and are its first member. A private one gets an id that is drawn; it is told to nobody.
    ///
    /// # Errors
    /// Why not; nothing has changed. [`Unchanged::Exists`] if there is an open one of that name.
    pub fn create_domain(
        &mut self,
        now: Time,
        name: &DomainName,
        is_private: bool,
    ) -> Result<DomainId, Unchanged> {
        let id = if is_private { DomainId(self.draw.bytes16()) } else { id_of(name) };
        if self.domains(now).iter().any(|it| it.domain == id) {
            return Err(Unchanged::Exists);
        }
        self.furthers.join(now, id, name.clone(), !is_private, &self.domain)?;
        if !is_private {
            self.furthers.tell_of_new(now, name);
        }
        self.settle(now);
        Ok(id)
    }

    /// We are a member of that domain no more.
    ///
    /// # Errors
    /// Why not; nothing has changed.
    pub fn leave_domain(&mut self, now: Time, domain: DomainId) -> Result<(), Unchanged> {
        let left = self.furthers.leave(now, domain, &mut self.domain);
        self.settle(now);
        left
    }
}
