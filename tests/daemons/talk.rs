//! What operators say to each other through their boot servers, and in which domains (issue 8).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use sim::boot_net::{PINNED_ITEM, binld_config, boot_files, start};
use sim::daemon::{Daemon, Kind, program};
use sim::lab::{Lab, eventually};

/// Two boot networks that a router joins, a boot server each, and one that has no list of domains.
struct Site {
    _lab: Lab,
    hall: Daemon,
    lab: Daemon,
    plain: Daemon,
}

impl Site {
    fn new() -> Self {
        let mut lab = Lab::new();
        boot_files(&lab);
        let _ = lab.router(2);
        let mut binld = |segment: u8, number: u8, name: &str, domain: &str| {
            let host = lab.host_on(segment, name, number);
            let contact = format!("contacts = [\"10.77.{}.11:4016\"]\n", 1 - segment);
            let rest = format!("{PINNED_ITEM}\n[domain]\nauthor = \"{name}\"\n{contact}{domain}");
            let config = binld_config(&[host.address()], &rest);
            start(&lab, &host, Kind::Binld, name, &config)
        };
        let hall = binld(0, 11, "east", "name = \"hall\"\nlist = \"campus\"\n");
        let attic = binld(1, 11, "west", "name = \"lab\"\nlist = \"campus\"\n");
        let plain = binld(0, 12, "plain", "name = \"hall\"\n");
        Self { _lab: lab, hall, lab: attic, plain }
    }
}

/// What is printed, if it went well; else what is said.
fn ask(daemon: &Daemon, verb: &[&str]) -> Result<String, String> {
    let output = daemon.ask(verb);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn lines(daemon: &Daemon, verb: &[&str]) -> Vec<Value> {
    let answer = ask(daemon, verb).unwrap();
    answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn domain(daemon: &Daemon, name: &str) -> Option<Value> {
    lines(daemon, &["domain", "list", "--json"]).into_iter().find(|it| it["name"] == name)
}

fn says(daemon: &Daemon, of: &str, about: &str, words: &str) -> bool {
    let notes = lines(daemon, &["notes", "--json", "--domain", of]);
    notes.iter().any(|it| it["about"] == about && it["words"].as_str().is_some_and(|it| it.contains(words)))
}

#[test]
fn operators_of_two_boot_networks_find_each_others_domains_and_talk() {
    let site = Site::new();
    for (daemon, other) in [(&site.hall, "lab"), (&site.lab, "hall")] {
        eventually("the other boot network is listed", || domain(daemon, other));
        let listed = domain(daemon, other).unwrap();
        assert_eq!((listed["place"].as_str(), listed["coordinates"].as_bool()), (Some("known"), Some(true)));
    }
    assert_eq!(domain(&site.hall, "campus").unwrap()["place"], "list");
    // Only the parent is told to who has no list; joined, it shows the children.
    eventually("the parent is told", || domain(&site.plain, "campus"));
    assert_eq!(domain(&site.plain, "lab"), None);
    ask(&site.plain, &["domain", "join", "campus"]).unwrap();
    eventually("and shows its children", || domain(&site.plain, "lab"));
    let refused = ask(&site.plain, &["domain", "join", "lab"]).unwrap_err();
    assert!(refused.contains("no server does in two"), "{refused}");

    let made = ask(&site.hall, &["domain", "create", "night shift"]).unwrap();
    assert!(made.starts_with("made: "), "{made}");
    eventually("it is listed", || domain(&site.lab, "night shift"));
    assert!(says(&site.lab, "campus", "domain", "night shift is new"));
    let exists = ask(&site.lab, &["domain", "create", "night shift"]).unwrap_err();
    assert!(exists.contains("there is a domain of that name"), "{exists}");
    ask(&site.lab, &["domain", "join", "night shift"]).unwrap();
    let members = |daemon: &Daemon, name: &str| domain(daemon, name).and_then(|it| it["members"].as_u64());
    eventually("both are members", || (members(&site.lab, "night shift") == Some(2)).then_some(()));
    ask(&site.lab, &["note", "who has the key?", "--domain", "night shift", "--for", "60"]).unwrap();
    eventually("it is read", || {
        says(&site.hall, "night shift", "operator", "who has the key?").then_some(())
    });
    assert!(!says(&site.hall, "campus", "operator", "key") && !says(&site.hall, "hall", "operator", "key"));
    let shown = ask(&site.hall, &["domain", "list"]).unwrap();
    assert!(shown.contains("night shift  member") && shown.contains("campus"), "{shown}");
    ask(&site.lab, &["domain", "leave", "night shift"]).unwrap();
    eventually("it has left", || (members(&site.hall, "night shift") == Some(1)).then_some(()));
    assert!(
        ask(&site.lab, &["notes", "--domain", "night shift"])
            .unwrap_err()
            .contains("no member of that domain")
    );

    let made = ask(&site.hall, &["domain", "create", "secret", "--private"]).unwrap();
    let id = made.trim().rsplit(' ').next().unwrap().trim_end_matches('`').to_owned();
    ask(&site.lab, &["domain", "join", "--id", &id]).unwrap();
    eventually("who knows the id is let in", || (members(&site.hall, "secret") == Some(2)).then_some(()));
    assert_eq!(domain(&site.plain, "secret"), None);
    ask(&site.hall, &["note", "only here", "--domain", "secret"]).unwrap();
    eventually("it is read under its id", || says(&site.lab, &id, "operator", "only here").then_some(()));
    ask(&site.hall, &["domain", "leave", "secret"]).unwrap();
    ask(&site.lab, &["domain", "leave", &id]).unwrap();
    assert_eq!((domain(&site.hall, "secret"), domain(&site.lab, &id)), (None, None));
}

#[test]
fn notes_are_followed_and_nothing_in_them_reaches_a_terminal_but_words() {
    let site = Site::new();
    eventually("both of the hall say that they have come", || {
        (says(&site.hall, "hall", "joined", "10.77.0.12")
            && says(&site.plain, "hall", "joined", "10.77.0.11"))
        .then_some(())
    });
    let mut command = site.plain.host().command(&program("binld"));
    command.arg("--config").arg(site.plain.config_file()).args(["notes", "--follow"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut read = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut until = |words: &str| loop {
        let line = read.next().expect("it goes on").unwrap();
        if line.contains(words) {
            return line;
        }
    };
    until("has joined");
    assert!(ask(&site.hall, &["note", "rack 7 is off until noon"]).unwrap().contains("as east, for 600 s"));
    assert!(until("rack 7").ends_with("Z  east: rack 7 is off until noon"));
    ask(&site.hall, &["name", "Zoë"]).unwrap();
    assert!(until("renamed").ends_with("Z  Zoë: [renamed] was called east until now"));
    ask(&site.hall, &["note", "and on again"]).unwrap();
    assert!(until("and on").ends_with("Z  Zoë: and on again"));
    follower.kill().unwrap();
    follower.wait().unwrap();

    let refused = |verb: &[&str]| ask(&site.hall, verb).unwrap_err();
    let megabyte = "x".repeat(100_000);
    assert!(refused(&["note", &megabyte]).contains("it is 100000 bytes long, and 400 is the most"));
    assert!(refused(&["note", "\u{1b}[2Jgone"]).contains("U+001B is a control character"));
    assert!(refused(&["name", "a\u{202e}b"]).contains("U+202E is a control character"));
    assert!(refused(&["note", "  "]).contains("there are no words in it"));
    assert!(refused(&["domain", "join", "a\nb"]).contains("U+000A is a control character"));
    for number in 2..16 {
        ask(&site.hall, &["note", &format!("note {number}")]).unwrap();
    }
    let full = refused(&["note", "one too many"]);
    assert!(full.contains("16 notes of this server are still to be read"), "{full}");
    eventually("all of them are read", || {
        let notes = lines(&site.plain, &["notes", "--json"]);
        (notes.iter().filter(|it| it["about"] == "operator").count() == 16).then_some(())
    });
}

#[test]
fn the_console_shows_notes_and_domains_and_takes_lines() {
    let site = Site::new();
    eventually("the site is listed", || domain(&site.hall, "lab"));
    // `script` gives it a terminal.
    let binld =
        format!("{} console --config {}", program("binld").display(), site.hall.config_file().display());
    let mut command = site.hall.host().command(Path::new("script"));
    let mut console = command
        .args(["-qec", &binld, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = console.stdin.take().unwrap();
    let mut screen = BufReader::new(console.stdout.take().unwrap());
    let mut seen = Vec::new();
    let mut until = |what: &str| {
        while !String::from_utf8_lossy(&seen).contains(what) {
            let new = screen.fill_buf().unwrap().to_vec();
            assert!(!new.is_empty(), "it ended without {what:?}: {}", String::from_utf8_lossy(&seen));
            seen.extend(&new);
            screen.consume(new.len());
        }
        seen.clear();
    };
    until("campus  list  2 members");
    keys.write_all(b"rack 7 is off\n").unwrap();
    until("east: rack 7 is off");
    keys.write_all(b"/create night shift\n").unwrap();
    until("night shift  member  1 members");
    keys.write_all(b"/go night shift\n").unwrap();
    until("night shift: notes");
    keys.write_all(b"/go lab\n").unwrap();
    until("no member of that domain");
    keys.write_all(b"/leave night shift\n").unwrap();
    until("hall: notes");
    keys.write_all(b"/quit\n").unwrap();
    assert!(console.wait().unwrap().success());
    let refused = ask(&site.hall, &["console"]).unwrap_err();
    assert!(refused.contains("a console needs a terminal"), "{refused}");
    eventually("who has no console reads it", || {
        says(&site.plain, "hall", "operator", "rack 7").then_some(())
    });
}
