//! Who answers which share of the clients, as operators and name servers are shown it (R001.25).

use std::fmt::Write;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use peers::responder::{CandidateStatus, News};
use serde_json::{Value, json};
use wire::ServerId;
use wire::elect::SHARDS;

use crate::engine::responding::RespondingStatus;

/// How long name servers and clients may keep a record, in seconds: as long as a hold-down, after which it may be another.
const TTL_SECONDS: u32 = 30;

/// In a line.
pub(super) fn line(responding: &RespondingStatus, address: Ipv4Addr) -> String {
    let ours = responding.servers.iter().find(|server| host(server, address) == address);
    let shards = ours.map_or(0, |server| server.shards);
    let alone = if responding.drained && shards > 0 { ": nobody else is there to take over" } else { "" };
    let drained = if responding.drained { format!(", drained{alone}") } else { String::new() };
    let answered = responding.answered;
    format!(
        "answers {shards} of {SHARDS} shares of the clients{drained}; {answered} have a responder that works"
    )
}

/// A row of a table for each server.
pub(super) fn rows(responding: &RespondingStatus, address: Ipv4Addr) -> Vec<Vec<String>> {
    let row = |server: &CandidateStatus| {
        vec![
            host(server, address).to_string(),
            server.server.to_string(),
            server.shards.to_string(),
            match server.weight {
                Some(0) => "drained".to_owned(),
                Some(weight) => weight.to_string(),
                None => "-".to_owned(),
            },
            if server.works { "yes" } else { "no" }.to_owned(),
            server.delay.map_or("-".to_owned(), |delay| format!("{} ms", delay.as_millis())),
        ]
    };
    responding.servers.iter().map(row).collect()
}

pub(super) fn json(responding: &RespondingStatus, address: Ipv4Addr) -> Value {
    let server = |server: &CandidateStatus| {
        json!({
            "address": host(server, address),
            "server": server.server.to_string(),
            "shards": server.shards,
            "weight": server.weight,
            "works": server.works,
            "delay_ms": server.delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        })
    };
    json!({
        "shards": SHARDS,
        "answered": responding.answered,
        "drained": responding.drained,
        "servers": responding.servers.iter().map(server).collect::<Vec<_>>(),
    })
}

fn host(server: &CandidateStatus, ours: Ipv4Addr) -> Ipv4Addr {
    server.control.map_or(ours, |control| *control.ip())
}

/// The responders as records of a zone (RFC 2782): those that work; the weight is their share of the clients.
fn zone_text(responding: &RespondingStatus, address: Ipv4Addr, port: u16, zone: &str) -> String {
    let zone = format!("{}.", zone.trim_end_matches('.'));
    let mut out = String::from("; written by binld, and again when it changes\n");
    for server in responding.servers.iter().filter(|server| server.works) {
        let address = host(server, address);
        let name = format!("binld-{}.{zone}", address.to_string().replace('.', "-"));
        let priority = u8::from(server.shards == 0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "_pxe-boot._udp.{zone} {TTL_SECONDS} IN SRV {priority} {} {port} {name}\n{name} {TTL_SECONDS} IN A {address}",
            server.shards
        );
    }
    out
}

/// The file of the records, if one is configured.
#[derive(Debug)]
pub(super) struct ZoneFile {
    path: PathBuf,
    zone: String,
    port: u16,
    written: String,
    failed: bool,
}

impl ZoneFile {
    pub(super) fn new(path: PathBuf, zone: String, port: u16) -> Self {
        Self { path, zone, port, written: String::new(), failed: false }
    }

    /// Writes what has changed; as a whole, so that nobody reads half of it.
    pub(super) fn write(&mut self, responding: &RespondingStatus, address: Ipv4Addr) {
        let text = zone_text(responding, address, self.port, &self.zone);
        if text == self.written {
            return;
        }
        let outcome = replace(&self.path, &text);
        let was_failed = std::mem::replace(&mut self.failed, outcome.is_err());
        match outcome {
            Ok(()) => self.written = text,
            Err(error) if !was_failed => {
                let todo = "make its directory writable for binld; it is tried again";
                tracing::warn!(file = %self.path.display(), todo, "the responders cannot be written: {error}");
            }
            Err(_) => {}
        }
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}

/// News of the election, as a line of the log.
pub(super) fn write(news: News) {
    match news {
        News::TookOver { shards, from } => write_took_over(shards, from),
        News::GaveWay { shards, to } => {
            tracing::info!(shards, of = SHARDS, %to, "answers fewer of the clients: another server took over");
        }
        News::Failed(server) => {
            tracing::warn!(%server, "the boot server does not answer inquiries: others take over its clients");
        }
        News::Works(server) => tracing::info!(%server, "the boot server answers inquiries again"),
        News::Slept => {
            let todo = "look what kept this host so busy, or suspended it";
            tracing::warn!(todo, "did nothing for so long that others have taken over; stands by");
        }
        News::Strange(server, what) => {
            let todo = "look at its version and its log; its messages change nothing";
            tracing::warn!(%server, what, todo, "a boot server says in the election what cannot be");
        }
    }
}

fn write_took_over(shards: usize, from: Option<ServerId>) {
    match from {
        Some(from) => {
            tracing::info!(shards, of = SHARDS, %from, "answers more of the clients: took over from another server");
        }
        None => tracing::info!(shards, of = SHARDS, "answers more of the clients"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddrV4;
    use std::time::Duration;

    const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn responding() -> RespondingStatus {
        let us = CandidateStatus {
            server: ServerId([1; 16]),
            control: None,
            weight: Some(4),
            works: true,
            shards: 100,
            delay: None,
        };
        let other = |last: u8, shards, works, weight| CandidateStatus {
            server: ServerId([last; 16]),
            control: Some(SocketAddrV4::new([10, 0, 0, last].into(), 4016)),
            weight,
            works,
            shards,
            delay: Some(Duration::from_millis(5)),
        };
        let servers =
            vec![us, other(7, 28, true, Some(2)), other(8, 0, true, Some(0)), other(9, 0, false, None)];
        RespondingStatus { servers, answered: 128, drained: false }
    }

    #[test]
    fn name_servers_are_told_who_works() {
        let text = zone_text(&responding(), OURS, 4011, "pxe.example");
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let expected = [
            "_pxe-boot._udp.pxe.example. 30 IN SRV 0 100 4011 binld-10-0-0-2.pxe.example.",
            "binld-10-0-0-2.pxe.example. 30 IN A 10.0.0.2",
            "_pxe-boot._udp.pxe.example. 30 IN SRV 0 28 4011 binld-10-0-0-7.pxe.example.",
            "binld-10-0-0-7.pxe.example. 30 IN A 10.0.0.7",
            "_pxe-boot._udp.pxe.example. 30 IN SRV 1 0 4011 binld-10-0-0-8.pxe.example.",
            "binld-10-0-0-8.pxe.example. 30 IN A 10.0.0.8",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_file_is_written_when_something_changes_and_survives_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub").join("pxe.zone");
        let mut file = ZoneFile::new(path.clone(), "a.".to_owned(), 4011);
        file.write(&responding(), OURS);
        assert!(file.failed && !path.exists());
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        file.write(&responding(), OURS);
        assert!(std::fs::read_to_string(&path).unwrap().contains("SRV 0 100"));
        std::fs::remove_file(&path).unwrap();
        file.write(&responding(), OURS);
        assert!(!path.exists(), "nothing has changed");
        file.write(&RespondingStatus { servers: Vec::new(), ..responding() }, OURS);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn people_see_shares_and_who_is_drained() {
        let told = line(&responding(), OURS);
        assert_eq!(told, "answers 100 of 128 shares of the clients; 128 have a responder that works");
        let told = line(&RespondingStatus { drained: true, ..responding() }, OURS);
        assert!(told.contains("drained: nobody else is there"), "{told}");
        let rows = rows(&responding(), OURS);
        assert_eq!(rows[1], ["10.0.0.7", "07070707070707070707070707070707", "28", "2", "yes", "5 ms"]);
        assert_eq!((rows[2][3].as_str(), rows[3][4].as_str()), ("drained", "no"));
        let told = json(&responding(), OURS);
        assert_eq!((&told["answered"], &told["servers"][1]["delay_ms"]), (&json!(128), &json!(5)));
    }
}
