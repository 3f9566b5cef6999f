//! Whom a file server still serves, and how an operator ends it (G11, G12, G14).

use std::net::Ipv4Addr;
use std::process::Output;

use serde_json::Value;
use sim::boot_net::{
    DYNAMIC_ITEM, PINNED_ITEM, binld_config, boot_files, claim, references, start, start_binld, start_mtftpd,
    until_held,
};
use sim::daemon::{Daemon, Kind, program};
use sim::lab::{Lab, eventually};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code, output and errors.
fn told(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn forget(mtftpd: &Daemon, words: &[&str]) -> (Option<i32>, String, String) {
    told(&mtftpd.ask(&[&["forget"], words].concat()))
}

fn listed(mtftpd: &Daemon, file: &str) -> Vec<Value> {
    claim(mtftpd, file).and_then(|claim| claim["references"].as_array().cloned()).unwrap_or_default()
}

fn stored(mtftpd: &Daemon) -> usize {
    mtftpd.dump().iter().filter(|record| record["record"] == "reference").count()
}

#[test]
fn a_dead_boot_servers_reference_survives_a_killed_file_server_until_an_operator_forgets_it() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mut mtftpd = start_mtftpd(&mut lab);
    let mut binld = start_binld(&mut lab, 1, &format!("{PINNED_ITEM}{DYNAMIC_ITEM}"));
    let place = until_held(&binld, "rom.img");
    until_held(&binld, "initrd.img");
    binld.kill();
    mtftpd.kill();
    mtftpd.start();
    let kept = listed(&mtftpd, "rom.img");
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!((kept["stale"].as_bool(), kept["age_ms"].as_u64()), (Some(false), None));
    let id = kept["binld"].as_str().expect("an id").to_owned();
    let group = place.group.to_string();
    // The id stands in the tables in the form that the order takes.
    let (code, shown, _) = told(&mtftpd.ask(&["status"]));
    assert!(code == Some(0) && shown.contains(&id), "{shown}");

    // Refused, each with what is there and what to do: nothing changes.
    let stranger = "0".repeat(32);
    let refused = [
        (
            vec!["239.255.99.99", &id],
            "nobody relies on 239.255.99.99; addresses with references: 239.255.".to_owned(),
        ),
        (vec![&group, &stranger], format!("{stranger} does not rely on {group}; those who do: {id}")),
        (vec![&group, &id], "is not stale".to_owned()),
        (vec![&group, &id], "--force".to_owned()),
    ];
    for (words, part) in refused {
        let (code, out, error) = forget(&mtftpd, &words);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{error}");
        assert!(error.starts_with("mtftpd: ") && error.contains(&part), "{part} in {error}");
    }
    for words in [vec![group.as_str()], vec!["10.0.0.1", &id], vec![&group, "abc"]] {
        assert_eq!(forget(&mtftpd, &words).0, Some(2), "{words:?}");
    }
    assert_eq!(stored(&mtftpd), 2);

    let (code, out, error) = forget(&mtftpd, &[&group, &id, "--force"]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("the address rests for 5m 00s"), "{out}");
    // Answered after the store had it: a crash right after brings nothing back.
    mtftpd.kill();
    assert_eq!(stored(&mtftpd), 1);
    mtftpd.start();
    assert!(claim(&mtftpd, "rom.img").is_none());
    let rests = mtftpd.status()["rests"].clone();
    assert_eq!(rests[0]["group"].as_str(), Some(group.as_str()));
    assert_eq!(references(&mtftpd, "initrd.img"), [Ipv4Addr::new(10, 77, 0, 11).to_string()]);
    assert!(mtftpd.log().contains("on behalf of its BINLD"));
    let checked = std::process::Command::new(program("pxemc-db")).arg("check").arg(mtftpd.store()).output();
    let checked = told(&checked.expect("pxemc-db runs"));
    assert_eq!(checked.0, Some(0), "{checked:?}");

    // It lives after all: a new boot epoch is above every fence.
    binld.start();
    until_held(&binld, "rom.img");
    eventually("its reference again", || (references(&mtftpd, "rom.img").len() == 1).then_some(()));
}

#[test]
fn an_order_without_a_daemon_fails_and_says_so() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mut mtftpd = start_mtftpd(&mut lab);
    mtftpd.stop();
    let (code, _, error) = forget(&mtftpd, &["239.255.0.1", &"0".repeat(32)]);
    assert_eq!(code, Some(1));
    assert!(error.contains("no daemon answers"), "{error}");
    let (code, printed, _) = mtftpd.check();
    assert_eq!(code, Some(0));
    assert!(printed.contains("references = \"lease\"\n"), "{printed}");
}

/// The servers that a daemon hears, by what they do, if it is done with joining.
fn members(daemon: &Daemon, list: &str) -> Option<Vec<String>> {
    let status = daemon.status();
    let list = status[list].as_array().expect("a list");
    let addresses = list.iter().filter_map(|one| one["address"].as_str().map(str::to_owned));
    (status["domain"] == "joined").then(|| addresses.collect())
}

/// Also where both daemons share an address: the group's port is bound by the one, the host's by the other.
#[test]
fn a_file_server_is_a_member_of_the_domain_and_tells_who_relies_on_it() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let host = lab.host("both", 21);
    let mut mtftpd = start(&lab, &host, Kind::Mtftpd, "mtftpd", "");
    let own = binld_config(&[host.address()], DYNAMIC_ITEM);
    let beside = start(&lab, &host, Kind::Binld, "beside", &own);
    let other = start_binld(&mut lab, 1, DYNAMIC_ITEM);
    until_held(&beside, "rom.img");
    until_held(&other, "rom.img");
    for binld in [&beside, &other] {
        eventually("the file server is heard", || {
            (members(binld, "file_servers")? == ["10.77.0.21"]).then_some(())
        });
        eventually("one other boot server is heard", || {
            (members(binld, "boot_servers")?.len() == 1).then_some(())
        });
    }
    eventually("the file server hears both", || {
        let mut heard = members(&mtftpd, "members")?;
        heard.sort();
        (heard == ["10.77.0.11", "10.77.0.21"]).then_some(())
    });
    // Three members and their notes that they have come, two claims, the references of their address, and which clients each
    // of the two answers.
    for daemon in [&mtftpd, &beside, &other] {
        eventually("all have the same records", || (daemon.status()["records"] == 11).then_some(()));
    }
    let (code, shown, _) = told(&mtftpd.ask(&["status"]));
    assert!(code == Some(0) && shown.contains("domain joined, 11 records"), "{shown}");
    assert!(shown.contains("members: 2"), "{shown}");
    // One that is told to end says so.
    mtftpd.stop();
    eventually("it left", || other.log().contains("another server leaves").then_some(()));
}

#[test]
fn a_file_server_of_another_domain_hears_and_tells_nothing() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let host = lab.host("mtftp1", 21);
    let mtftpd = start(&lab, &host, Kind::Mtftpd, "mtftpd", "[domain]\nname = \"attic\"\n");
    let binld = start_binld(&mut lab, 1, DYNAMIC_ITEM);
    until_held(&binld, "rom.img");
    eventually("it hears nobody of its own", || (mtftpd.status()["domain"] == "alone").then_some(()));
    // Itself, and its references.
    assert_eq!(mtftpd.status()["records"], 2);
    let (code, printed, _) = mtftpd.check();
    assert!(code == Some(0) && printed.contains("name = \"attic\""), "{printed}");
}
