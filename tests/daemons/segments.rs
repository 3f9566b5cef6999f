//! Three boot networks that a router joins: two boot servers and a file server on each (issue 8).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;
use sim::boot_net::{TYPE, binld_config, boot_files, held, pattern, start, until_held};
use sim::daemon::{Daemon, Kind, program};
use sim::lab::{Lab, Router, eventually};

const SEGMENTS: u8 = 3;
/// Of a segment's file, in bytes; no two are of one length.
const LEN: usize = 500_000;

/// What a boot network offers: a file of its own, on an address of the pool.
fn item(segment: u8) -> String {
    format!(
        "[[item]]\nname = \"debian{segment}\"\ntype = {TYPE}\n\n[[item.boot]]\nprofile = \"mtftp-get\"\n\
         file = \"{file}\"\nmulticast = \"{file}\"\n\n[item.boot.transfer]\n",
        file = file(segment),
    )
}

fn file(segment: u8) -> String {
    format!("initrd{segment}.img")
}

struct Site {
    lab: Lab,
    router: Router,
    /// By segment.
    binlds: Vec<[Daemon; 2]>,
    _mtftpds: Vec<Daemon>,
}

impl Site {
    /// All of it, running. Everybody knows one contact, the first boot server of another segment.
    fn new() -> Self {
        let mut lab = Lab::new();
        boot_files(&lab);
        let router = lab.router(SEGMENTS);
        let (mut binlds, mut mtftpds) = (Vec::new(), Vec::new());
        for segment in 0..SEGMENTS {
            lab.boot_file(&file(segment), &pattern(LEN + usize::from(segment)));
            let contact = if segment == 0 { 1 } else { 0 };
            let domain = format!("\n[domain]\ncontacts = [\"10.77.{contact}.11:4016\"]\n");
            let host = lab.host_on(segment, &format!("mtftp{segment}"), 21);
            mtftpds.push(start(&lab, &host, Kind::Mtftpd, &format!("mtftpd{segment}"), &domain));
            let config = binld_config(&[host.address()], &(item(segment) + &domain));
            binlds.push([1, 2].map(|number| {
                let name = format!("binld{segment}{number}");
                let host = lab.host_on(segment, &name, 10 + number);
                start(&lab, &host, Kind::Binld, &name, &config)
            }));
        }
        Self { lab, router, binlds, _mtftpds: mtftpds }
    }

    fn all(&self) -> impl Iterator<Item = &Daemon> {
        self.binlds.iter().flatten()
    }

    /// A machine of that segment asks whoever answers there, and loads its file by multicast from its file server.
    #[track_caller]
    fn boots(&mut self, segment: u8, number: u8) {
        let name = format!("machine{segment}{number}");
        let host = self.lab.host_on(segment, &name, 100 + number);
        let mut command = host.command(&program("mtftp-get"));
        let kind = TYPE.to_string();
        command.current_dir(self.lab.folder()).args([
            "--type",
            &kind,
            "--interface",
            "eth0",
            "--output",
            &name,
        ]);
        let output = command.args(["--json", "--quiet"]).output().unwrap();
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        let told: Value = serde_json::from_slice(&said).unwrap_or_default();
        let server = format!("10.77.{segment}.21");
        let is_well = output.status.success() && told["source"] == "rfc2090" && told["server"] == *server;
        assert!(is_well, "{name}: {}", String::from_utf8_lossy(&said));
        assert!(std::fs::read(self.lab.folder().join(&name)).unwrap() == pattern(LEN + usize::from(segment)));
    }
}

fn number(daemon: &Daemon, key: &str) -> u64 {
    daemon.status()[key].as_u64().unwrap_or(u64::MAX)
}

/// Addresses of the domain as that boot server knows them: of each file one.
fn known(daemon: &Daemon) -> BTreeMap<String, Vec<String>> {
    let status = daemon.status();
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for claim in status["claims"].as_array().into_iter().flatten().filter(|it| it["state"] == "held") {
        known.entry(text(&claim["group"])).or_default().push(text(&claim["file"]));
    }
    for claim in status["claims_of_others"].as_array().into_iter().flatten() {
        let content = text(&claim["content"]);
        let file = content.rsplit(['/', ':', ' ']).next().unwrap_or_default().to_owned();
        known.entry(text(&claim["address"])).or_default().push(file);
    }
    known.values_mut().for_each(|files| {
        files.sort();
        files.dedup();
    });
    known
}

fn is_one(daemon: &Daemon) -> bool {
    number(daemon, "not_connected") == 0
        && daemon.status()["neighbours"].as_array().is_some_and(|all| all.len() >= 2)
        && known(daemon).len() == usize::from(SEGMENTS)
}

#[test]
fn a_segment_that_is_cut_off_boots_its_machines_and_comes_back() {
    let mut site = Site::new();
    for daemon in site.all() {
        eventually("one domain", || is_one(daemon).then_some(()));
    }
    let places: Vec<Ipv4Addr> = (0..SEGMENTS)
        .map(|segment| {
            let [first, second] = &site.binlds[usize::from(segment)];
            let place = until_held(first, &file(segment));
            assert_eq!(until_held(second, &file(segment)), place, "both of a segment share it");
            place.group
        })
        .collect();
    for daemon in site.all() {
        assert!(number(daemon, "diameter") <= 4, "{}", daemon.status());
        assert!(known(daemon).values().all(|files| files.len() == 1), "{:?}", known(daemon));
    }
    // Cut off, and machines of all segments boot all the same.
    site.router.cut_off(2);
    for segment in 0..SEGMENTS {
        site.boots(segment, 1);
    }
    let [lonely, _] = &site.binlds[2];
    let is_apart = |daemon: &Daemon| number(daemon, "not_connected") > 0;
    eventually("the cut is seen inside", || is_apart(lonely).then_some(()));
    eventually("and outside", || is_apart(&site.binlds[0][0]).then_some(()));
    site.boots(2, 2);
    site.router.heal();
    for daemon in site.all() {
        eventually("one domain again", || is_one(daemon).then_some(()));
        assert!(known(daemon).values().all(|files| files.len() == 1), "{:?}", known(daemon));
    }
    for segment in 0..SEGMENTS {
        let place = held(&site.binlds[usize::from(segment)][0], &file(segment));
        assert_eq!(place.map(|place| place.group), Some(places[usize::from(segment)]), "nobody gave way");
        site.boots(segment, 3);
    }
}
