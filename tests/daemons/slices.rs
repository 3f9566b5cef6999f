//! The list of boot servers, and the operator's words about it (issue 4, G5).

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use sim::boot_net::{PINNED_ITEM, boot_files, start_binld, start_mtftpd, until_held};
use sim::daemon::Daemon;
use sim::lab::{Lab, eventually, eventually_in};

/// A list is agreed upon within seconds; an address that was given back rests for ten.
const PATIENCE: Duration = Duration::from_secs(60);

fn id(binld: &Daemon) -> String {
    binld.status()["server"].as_str().unwrap().to_owned()
}

/// The list in force there, and who of it is not heard.
fn list(binld: &Daemon) -> (Vec<String>, Vec<String>) {
    let status = binld.status();
    let names = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    (names(&status["boot_server_list"]["members"]), names(&status["boot_server_list"]["silent"]))
}

fn until_list(binld: &Daemon, members: &[&String]) {
    let mut wanted: Vec<String> = members.iter().map(|it| (*it).clone()).collect();
    wanted.sort();
    eventually_in(PATIENCE, "the list of boot servers", || (list(binld).0 == wanted).then_some(()));
}

fn refused(output: &Output, why: &str) {
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(why), "{said}");
}

#[test]
fn boot_servers_agree_upon_a_list_and_go_by_the_operators_word() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let _mtftpd = start_mtftpd(&mut lab);
    let mut first = start_binld(&mut lab, 1, PINNED_ITEM);
    let mut second = start_binld(&mut lab, 2, PINNED_ITEM);
    let (one, two) = (id(&first), id(&second));
    until_held(&first, "initrd.img");
    for binld in [&first, &second] {
        until_list(binld, &[&one, &two]);
    }
    refused(&first.ask(&["strike-off", &one]), "binld leave");
    refused(&first.ask(&["strike-off", &two]), "is running");
    refused(&first.ask(&["strike-off", &"9".repeat(32)]), "on no list");
    assert_eq!(first.ask(&["strike-off", "nobody"]).status.code(), Some(2));

    // What was agreed upon outlives both, and one that is gone stays on the list until an operator says so.
    second.kill();
    assert_eq!(first.stop().code, Some(0));
    first.start();
    eventually("the dead one is missed", || (list(&first).1 == [two.clone()]).then_some(()));
    assert_eq!(list(&first).0.len(), 2);
    let stored = first.dump().into_iter().find(|it| it["record"] == "roll").expect("the list is stored");
    assert_eq!(stored["members"].as_array().map(Vec::len), Some(2), "{stored}");
    let struck = eventually_in(PATIENCE, "struck off", || {
        let output = first.ask(&["strike-off", &two]);
        output.status.success().then_some(output)
    });
    assert!(String::from_utf8_lossy(&struck.stdout).contains("do not start it again"));
    until_list(&first, &[&one]);

    // Back it is a newcomer. Who leaves for good gives back what it has, and ends.
    second.start();
    let mut third = start_binld(&mut lab, 3, PINNED_ITEM);
    let three = id(&third);
    for binld in [&first, &second, &third] {
        until_list(binld, &[&one, &two, &three]);
    }
    until_held(&third, "initrd.img");
    let left = third.ask(&["leave"]);
    assert!(left.status.success(), "{left:?}");
    eventually_in(PATIENCE, "the end of who leaves", || (!third.is_running()).then_some(()));
    assert_eq!(third.wait_end().code, Some(0));
    until_list(&first, &[&one, &two]);
    assert!(list(&first).1.is_empty());
}
