//! `binld note`, `notes`, `name`, `domain`: what operators say to each other, and where.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use driver::cli::order;
use driver::table::section;
use driver::{host, watch};
use peers::limits::{LIVES_MAX, NOTE_LIVES_MIN};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wire::contact::DomainName;
use wire::note::{Author, Words};

use crate::shell::Talk;

const NOTE: &str = "note";
const NOTES: &str = "notes";
const NAME: &str = "name";
const DOMAIN: &str = "domain";
/// How long a note is to be read if that is not said, in seconds.
const LIVES: &str = "600";
/// How often a follower looks for new notes.
const FOLLOW: Duration = Duration::from_secs(1);

/// The commands.
pub(super) fn commands() -> Vec<Command> {
    let words = Arg::new("words").required(true).value_name("TEXT").help("At most 400 bytes; quote it");
    let lives = Arg::new("lives")
        .long("for")
        .value_name("SECONDS")
        .default_value(LIVES)
        .value_parser(value_parser!(u16).range(i64::from(NOTE_LIVES_MIN)..=i64::from(LIVES_MAX)))
        .help("How long it is to be read, 10–3600");
    let json = flag("json", "One JSON object a line");
    let follow = flag("follow", "Goes on with those that come, until it is interrupted").short('f');
    vec![
        Command::new(NOTE)
            .about("Says something to whoever reads the notes of the domain")
            .arg(words)
            .arg(lives)
            .arg(domain()),
        Command::new(NOTES)
            .about(
                "Shows the notes of the domain, until they end: of operators, and of the servers themselves",
            )
            .arg(follow)
            .arg(json.clone())
            .arg(domain()),
        Command::new(NAME)
            .about("Goes by another name in notes, until the next start")
            .arg(Arg::new("name").required(true).value_name("NAME").help("At most 64 bytes")),
        domain_commands(json),
    ]
}

fn domain_commands(json: Arg) -> Command {
    let name = || {
        Arg::new("name").value_name("NAME").value_parser(name_of_domain).help("Its name, at most 64 bytes")
    };
    let id = Arg::new("id")
        .long("id")
        .value_name("ID")
        .value_parser(name_of_domain)
        .help("The id of a private one, 32 hexadecimal digits");
    Command::new(DOMAIN)
        .about("Domains beside the one in which this server coordinates addresses")
        .subcommand_required(true)
        .subcommand(
            Command::new("list")
                .about("Shows the domains of the site, as far as they can be reached")
                .arg(json),
        )
        .subcommand(
            Command::new("create")
                .about("Makes a domain, for notes, and joins it")
                .arg(name().required(true))
                .arg(flag("private", "It is on no list; whoever knows its id can join")),
        )
        .subcommand(
            Command::new("join")
                .about("Becomes a member, until the next start")
                .arg(name().required_unless_present("id"))
                .arg(id),
        )
        .subcommand(
            Command::new("leave")
                .about("Is a member no more")
                .arg(name().required(true).help("Its name, or its id")),
        )
}

/// What can be no name is not asked for.
fn name_of_domain(text: &str) -> Result<String, String> {
    DomainName::new(text)
        .map(|name| name.to_string())
        .map_err(|error| format!("that cannot be a name: {error}"))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn domain() -> Arg {
    let help = "In that domain, by its name or id, in place of the server's own";
    Arg::new(DOMAIN).long(DOMAIN).value_name("DOMAIN").value_parser(name_of_domain).help(help)
}

/// Carries one out; `None` if it is none of them.
pub(super) fn carry_out(name: &str, arguments: &ArgMatches, socket: &Path) -> Option<anyhow::Result<()>> {
    let text = |key: &str| arguments.get_one::<String>(key).cloned();
    let outcome = match name {
        NOTE => {
            let lives = arguments.get_one("lives").copied().unwrap_or_default();
            // Looked at here as well: a note of a megabyte is more than the socket takes.
            let words = text("words").unwrap_or_default();
            Words::new(&words)
                .map_err(|error| anyhow::anyhow!("not said: {error}"))
                .and_then(|_| print(socket, &Talk::Note { domain: text(DOMAIN), words, lives }))
        }
        NOTES => show_notes(socket, arguments),
        NAME => {
            let name = text("name").unwrap_or_default();
            Author::new(&name)
                .map_err(|error| anyhow::anyhow!("not renamed: {error}"))
                .and_then(|_| print(socket, &Talk::Name(name)))
        }
        DOMAIN => of_domains(socket, arguments.subcommand()?),
        _ => return None,
    };
    Some(outcome)
}

fn print(socket: &Path, talk: &Talk) -> anyhow::Result<()> {
    host::print(&order(socket, &talk.request())?)
}

fn of_domains(socket: &Path, (verb, arguments): (&str, &ArgMatches)) -> anyhow::Result<()> {
    if verb == "list" {
        return list(socket, arguments.get_flag("json"));
    }
    let name = arguments.get_one::<String>("name").cloned();
    let id = || arguments.get_one::<String>("id").cloned();
    // A private domain has its name among its members; who knows the id alone calls it by that.
    let name = name.or_else(id).unwrap_or_default();
    let talk = match verb {
        "create" => Talk::Create { name, private: arguments.get_flag("private") },
        "join" => Talk::Join { name, id: id() },
        _ => Talk::Leave { domain: name },
    };
    print(socket, &talk)
}

/// A note, as the daemon shows it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) written_ms: u64,
    pub(super) owner: String,
    pub(super) number: String,
    pub(super) about: String,
    pub(super) author: String,
    pub(super) words: String,
    pub(super) left_s: u16,
}

impl Line {
    /// Whether an operator says it.
    pub(super) fn is_said(&self) -> bool {
        self.about == "operator"
    }

    /// For people: the time of day in UTC, for none is read longer than an hour.
    pub(super) fn text(&self) -> String {
        let seconds = self.written_ms / 1000 % 86_400;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let about = if self.is_said() { String::new() } else { format!("[{}] ", self.about) };
        format!("{hours:02}:{minutes:02}:{:02}Z  {}: {about}{}\n", seconds % 60, self.author, self.words)
    }
}

fn show_notes(socket: &Path, arguments: &ArgMatches) -> anyhow::Result<()> {
    let is_json = arguments.get_flag("json");
    let domain = arguments.get_one::<String>(DOMAIN);
    let mut known = BTreeSet::new();
    let mut ask = || -> anyhow::Result<String> {
        let mut new = String::new();
        let mut there = BTreeSet::new();
        for line in notes(socket, domain)? {
            let key = (line.owner.clone(), line.number.clone());
            if !known.contains(&key) {
                new += &if is_json { format!("{}\n", serde_json::to_string(&line)?) } else { line.text() };
            }
            there.insert(key);
        }
        // What has ended is forgotten.
        known = there;
        Ok(new)
    };
    if arguments.get_flag("follow") {
        return watch::watch(FOLLOW, true, ask);
    }
    host::print(&ask()?)
}

/// A domain, as the daemon shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) place: String,
    pub(super) coordinates: bool,
    pub(super) members: usize,
    pub(super) contacts: Vec<String>,
    pub(super) parents: Vec<String>,
}

/// What the daemon shows, a line each.
fn shown<T: DeserializeOwned>(socket: &Path, talk: &Talk) -> anyhow::Result<Vec<T>> {
    let answer = order(socket, &talk.request())?;
    let read =
        |text| serde_json::from_str(text).context("the daemon is of another version than this program");
    answer.lines().map(read).collect()
}

/// The domains, as far as they can be reached.
pub(super) fn domains(socket: &Path) -> anyhow::Result<Vec<Listed>> {
    shown(socket, &Talk::Domains)
}

/// The notes of a domain, the oldest first.
pub(super) fn notes(socket: &Path, domain: Option<&String>) -> anyhow::Result<Vec<Line>> {
    shown(socket, &Talk::Notes { domain: domain.cloned() })
}

fn list(socket: &Path, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        return print(socket, &Talk::Domains);
    }
    let all = domains(socket)?;
    let name_of = |id: &String| all.iter().find(|it| it.id == *id).map_or(id.clone(), |it| it.name.clone());
    let rows = all.iter().map(|it| {
        let below: Vec<String> = it.parents.iter().map(name_of).collect();
        vec![
            it.name.clone(),
            it.place.clone(),
            if it.members == 0 { "-".to_owned() } else { it.members.to_string() },
            if it.coordinates { "yes".to_owned() } else { "no".to_owned() },
            below.join(" "),
            it.contacts.join(" "),
            it.id.clone(),
        ]
    });
    let head = ["name", "this server", "members", "addresses", "below", "ask at", "id"];
    let mut out = String::new();
    section(&mut out, "domains", &head, rows.collect());
    host::print(out.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_one_line() {
        let line = |about: &str| Line {
            written_ms: 1_700_000_123_456,
            owner: String::new(),
            number: String::new(),
            about: about.to_owned(),
            author: "east".to_owned(),
            words: "rack 7 is off".to_owned(),
            left_s: 60,
        };
        assert_eq!(line("operator").text(), "22:15:23Z  east: rack 7 is off\n");
        assert_eq!(line("left").text(), "22:15:23Z  east: [left] rack 7 is off\n");
    }
}
