//! Requests about notes and domains, on the control socket: one line of JSON each.

use driver::Time;
use driver::cli::DONE;
use peers::further::{Listed, Unchanged};
use peers::limits::{FURTHER_MAX, NOTES_SAID_MAX};
use peers::notes::NotWritten;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wire::DomainId;
use wire::contact::DomainName;
use wire::note::{Author, Words};

use crate::engine::Engine;

/// How such a request begins.
const TALK: &str = "talk ";

/// What an operator may ask for. Domains are named by their name, or by the 32 hexadecimal digits of their id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Talk {
    /// Says something.
    Note {
        /// In which domain; our own if not said.
        domain: Option<String>,
        /// What.
        words: String,
        /// How long it is to be read, in seconds.
        lives: u16,
    },
    /// Shows what was said.
    Notes {
        /// In which domain.
        domain: Option<String>,
    },
    /// Goes by another name.
    Name(String),
    /// Shows the domains.
    Domains,
    /// Makes one.
    Create {
        /// Its name.
        name: String,
        /// Nobody is told of it.
        private: bool,
    },
    /// Becomes a member.
    Join {
        /// Its name.
        name: String,
        /// The id of a private one.
        id: Option<String>,
    },
    /// Is a member no more.
    Leave {
        /// Which.
        domain: String,
    },
}

impl Talk {
    /// As it goes over the socket.
    pub(crate) fn request(&self) -> String {
        // A structure of strings and numbers is always written.
        format!("{TALK}{}", serde_json::to_string(self).unwrap_or_default())
    }

    /// Reads what [`Self::request`] writes.
    pub(super) fn parse(request: &str) -> Option<Self> {
        serde_json::from_str(request.strip_prefix(TALK)?).ok()
    }

    /// Carries it out; gives what the operator is told.
    pub(super) fn carry_out(self, engine: &mut Engine, now: Time) -> String {
        match self.try_out(engine, now) {
            Ok(done) => format!("{DONE}{done}"),
            Err(why) => format!("{why}\n"),
        }
    }

    fn try_out(self, engine: &mut Engine, now: Time) -> Result<String, String> {
        match self {
            Self::Note { domain, words, lives } => {
                let words = Words::new(&words).map_err(|error| format!("not said: {error}"))?;
                let domain = domain.as_deref().map(|it| meant(engine, it)).transpose()?;
                engine.write_note(now, domain, words, lives).map_err(|why| match why {
                    None => NO_MEMBER.to_owned(),
                    Some(NotWritten::Full(ends)) => format!(
                        "not said: {NOTES_SAID_MAX} notes of this server are still to be read, and that is the most; the first of them ends in {} s",
                        ends.since(now).as_secs()
                    ),
                    Some(NotWritten::Again) => "not said: it was said a moment ago".to_owned(),
                })?;
                Ok(format!("said to everybody as {}, for {lives} s\n", engine.author()))
            }
            Self::Notes { domain } => {
                let domain = domain.as_deref().map(|it| meant(engine, it)).transpose()?;
                let notes = engine.notes(now, domain).ok_or(NO_MEMBER)?;
                let line = |it: peers::domain::Told| {
                    json!({
                        "written_ms": it.note.written, "owner": it.owner.to_string(), "number": it.number.to_string(),
                        "about": it.note.about.name(), "author": it.note.author.to_string(),
                        "words": it.note.words.to_string(), "left_s": it.left,
                    })
                };
                Ok(notes.into_iter().map(|it| format!("{}\n", line(it))).collect())
            }
            Self::Name(name) => {
                let author = Author::new(&name).map_err(|error| format!("not renamed: {error}"))?;
                engine.rename(now, author);
                Ok(format!(
                    "goes by the name {} in notes until its next start; `domain.author` is for ever\n",
                    engine.author()
                ))
            }
            Self::Domains => {
                Ok(engine.domains(now).into_iter().map(|it| format!("{}\n", listed(&it))).collect())
            }
            Self::Create { name, private } => {
                let made = engine.create_domain(now, &named(&name)?, private).map_err(why)?;
                Ok(match private {
                    true => format!("made; others join with `binld domain join --id {made}`\n"),
                    false => format!("made: {made}; in `domain.also` it is joined at every start\n"),
                })
            }
            Self::Join { name, id: of } => {
                let of = of.map(|id| id.parse()).transpose()?;
                engine.join_domain(now, named(&name)?, of).map_err(why)?;
                Ok("a member, as soon as a member answers: see `binld domain list`; in `domain.also` it is joined at every start\n".to_owned())
            }
            Self::Leave { domain } => {
                let domain = meant(engine, &domain)?;
                engine.leave_domain(now, domain).map_err(why)?;
                Ok("left\n".to_owned())
            }
        }
    }
}

const NO_MEMBER: &str = "this server is no member of that domain: `binld domain list` shows of which it is";

fn named(name: &str) -> Result<DomainName, String> {
    DomainName::new(name).map_err(|error| format!("that cannot be a name: {error}"))
}

fn meant(engine: &Engine, domain: &str) -> Result<DomainId, String> {
    engine.domain_named(domain).ok_or_else(|| NO_MEMBER.to_owned())
}

fn why(unchanged: Unchanged) -> String {
    match unchanged {
        Unchanged::Member => "this server is a member of it already".to_owned(),
        Unchanged::NoMember => NO_MEMBER.to_owned(),
        Unchanged::Exists => "there is a domain of that name: join it, or take another name".to_owned(),
        Unchanged::Own => "that is the domain in which this server coordinates addresses: it is left with `binld leave`, and another one stands in `domain.name`".to_owned(),
        Unchanged::Coordinates => "that is the domain of a boot network: its boot servers coordinate addresses there, and no server does in two; `binld notes` on one of them shows its notes".to_owned(),
        Unchanged::TooMany => format!("this server is a member of {FURTHER_MAX} domains beside its own, and that is the most: leave one first"),
    }
}

fn listed(it: &Listed) -> serde_json::Value {
    json!({
        "name": it.name.to_string(), "id": it.domain.to_string(), "place": it.place.name(),
        "coordinates": it.coordinates, "members": it.members,
        "contacts": it.contacts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "parents": it.parents.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_is_written() {
        let (domain, name) = (Some("ops".to_owned()), "ops".to_owned());
        for talk in [
            Talk::Note { domain: domain.clone(), words: "\"quoted\" \u{1b}[2J".to_owned(), lives: 60 },
            Talk::Notes { domain },
            Talk::Name(name.clone()),
            Talk::Domains,
            Talk::Create { name: name.clone(), private: true },
            Talk::Join { name: name.clone(), id: None },
            Talk::Leave { domain: name },
        ] {
            let request = talk.request();
            assert!(!request.contains('\n'), "{request}");
            assert_eq!(Talk::parse(&request), Some(talk));
        }
        for nonsense in ["talk", "talk ", "talk {}", "talk {\"note\":{}}", "domains"] {
            assert_eq!(Talk::parse(nonsense), None, "{nonsense}");
        }
    }
}
