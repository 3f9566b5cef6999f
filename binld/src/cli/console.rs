//! `binld console`: the notes of a domain as they come and end, the domains, and a line to type in (source 004, figures
//! 18–21).

use std::path::{Path, PathBuf};

use driver::console::Console;
use wire::note::Words;

use super::talk::{Line, Listed, domains, notes};
use crate::shell::Talk;

/// What can be typed.
const HELP: &str = "a note, or: /go DOMAIN  /create NAME  /join NAME  /leave NAME  /name NAME  /quit";
/// How long a note from the console is to be read, in seconds.
const LIVES: u16 = 600;
/// Lines for what servers say of themselves, where there is room.
const SYSTEM_LINES: usize = 6;

/// The command.
pub(super) const CONSOLE: &str = "console";

/// Runs it until it is ended.
///
/// # Errors
/// There is no terminal, or no daemon any more.
pub(super) fn run(socket: &Path) -> anyhow::Result<()> {
    driver::console::run(&mut Talking { socket: socket.to_owned(), domain: None })
}

/// The console of one daemon.
struct Talking {
    socket: PathBuf,
    /// Which domain is shown; the daemon's own if none.
    domain: Option<String>,
}

impl Talking {
    fn do_it(&self, talk: &Talk) -> String {
        let done = driver::cli::order(&self.socket, &talk.request());
        done.unwrap_or_else(|error| error.to_string()).trim_end().to_owned()
    }
}

impl Console for Talking {
    fn screen(&mut self, rows: usize, columns: usize) -> anyhow::Result<Vec<String>> {
        let domains = domains(&self.socket)?;
        let is_shown = |it: &&Listed| match &self.domain {
            Some(domain) => it.name == *domain || it.id == *domain,
            None => it.place == "own",
        };
        let Some(shown) = domains.iter().find(is_shown).filter(|it| it.members > 0) else {
            // It was left meanwhile; our own is always there.
            anyhow::ensure!(self.domain.take().is_some(), "the daemon shows no domain of its own");
            return self.screen(rows, columns);
        };
        let notes = notes(&self.socket, self.domain.as_ref())?;
        Ok(laid_out(shown, &domains, &notes, rows, columns))
    }

    fn on_line(&mut self, line: &str) -> Option<String> {
        let (verb, rest) = line.split_once(' ').map_or((line, ""), |(verb, rest)| (verb, rest.trim()));
        let name = || rest.to_owned();
        Some(match verb {
            "" => HELP.to_owned(),
            "/quit" => return None,
            "/go" => match domains(&self.socket) {
                Err(error) => error.to_string(),
                Ok(all) => match all.iter().find(|it| it.members > 0 && (it.name == rest || it.id == rest)) {
                    Some(it) => {
                        self.domain = (it.place != "own").then(|| it.id.clone());
                        HELP.to_owned()
                    }
                    None => "this server is no member of that domain: /join it first".to_owned(),
                },
            },
            "/create" => self.do_it(&Talk::Create { name: name(), private: false }),
            "/join" => self.do_it(&Talk::Join { name: name(), id: None }),
            "/leave" => self.do_it(&Talk::Leave { domain: name() }),
            "/name" => self.do_it(&Talk::Name(name())),
            _ if verb.starts_with('/') => format!("unknown: {}; {HELP}", Words::cut(verb)),
            _ => {
                self.do_it(&Talk::Note { domain: self.domain.clone(), words: line.to_owned(), lives: LIVES })
            }
        })
    }
}

/// Head, what operators say, what servers say of themselves, and the domains; of both the newest that fit.
fn laid_out(shown: &Listed, all: &[Listed], notes: &[Line], rows: usize, columns: usize) -> Vec<String> {
    let title =
        |text: &str| format!("── {text} {}", "─".repeat(columns.saturating_sub(text.chars().count() + 4)));
    let (said, told): (Vec<&Line>, Vec<&Line>) = notes.iter().partition(|it| it.is_said());
    let mut domains = vec![title("domains")];
    domains.extend(all.iter().map(|it| match it.members {
        0 => format!("{}  {}", it.name, it.place),
        members => format!("{}  {}  {members} members", it.name, it.place),
    }));
    let mut system = vec![title("servers")];
    system.extend(last(&told, SYSTEM_LINES.min(told.len())));
    let below = domains.len() + system.len() + 1;
    let mut screen = vec![title(&format!("{}: notes", shown.name))];
    screen.extend(last(&said, rows.saturating_sub(below)));
    screen.resize(rows.saturating_sub(domains.len() + system.len()).max(1), String::new());
    screen.into_iter().chain(system).chain(domains).take(rows).collect()
}

fn last(notes: &[&Line], count: usize) -> Vec<String> {
    let from = notes.len().saturating_sub(count);
    notes.iter().skip(from).map(|it| it.text().trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, place: &str, members: usize) -> Listed {
        let (name, place) = (name.to_owned(), place.to_owned());
        Listed {
            name,
            id: String::new(),
            place,
            coordinates: false,
            members,
            contacts: vec![],
            parents: vec![],
        }
    }

    #[test]
    fn the_newest_notes_that_fit_are_shown_over_what_servers_say_and_the_domains() {
        let all = [listed("hall", "own", 2), listed("lab", "known", 0)];
        let note = |number: u64, about: &str| Line {
            written_ms: number * 1000,
            owner: String::new(),
            number: number.to_string(),
            about: about.to_owned(),
            author: "east".to_owned(),
            words: format!("note {number}"),
            left_s: 60,
        };
        let mut notes: Vec<Line> = (0..5).map(|number| note(number, "operator")).collect();
        notes.push(note(9, "left"));
        let screen = laid_out(&all[0], &all, &notes, 9, 20);
        assert_eq!(
            screen,
            [
                "── hall: notes ─────",
                "00:00:02Z  east: note 2",
                "00:00:03Z  east: note 3",
                "00:00:04Z  east: note 4",
                "── servers ─────────",
                "00:00:09Z  east: [left] note 9",
                "── domains ─────────",
                "hall  own  2 members",
                "lab  known",
            ]
        );
        let small = laid_out(&all[0], &all, &notes, 3, 20);
        assert_eq!(small.len(), 3, "{small:?}");
        assert_eq!(laid_out(&all[0], &all, &[], 9, 20).len(), 9);
    }
}
