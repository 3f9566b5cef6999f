//! Start, reload, end: what an operator does.

use std::net::SocketAddrV4;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use sim::boot_net::{
    DYNAMIC_ITEM, PINNED_ITEM, TYPE, binld_config, boot_files, held, references, start_binld, start_mtftpd,
    until_held,
};
use sim::daemon::{Daemon, program};
use sim::lab::{Lab, eventually};
use sim::pxe_client::{DISCOVERY_PORT, Firmware, Form, Machine, ask};

fn claims(binld: &Daemon) -> Vec<Value> {
    binld.dump().into_iter().filter(|record| record["record"] == "claim").collect()
}

#[test]
fn an_orderly_end_keeps_claims_and_references() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mut mtftpd = start_mtftpd(&mut lab);
    let mut binld = start_binld(&mut lab, 1, &format!("{PINNED_ITEM}{DYNAMIC_ITEM}"));
    let places = ["initrd.img", "rom.img"].map(|file| until_held(&binld, file));
    let before = eventually("held in the store", || {
        let claims = claims(&binld);
        (claims.len() == 2 && claims.iter().all(|claim| claim["state"] == "held")).then_some(claims)
    });
    let ended = binld.stop();
    assert_eq!((ended.code, ended.signal), (Some(0), None), "{}", ended.log);
    // The dump is the same whether the daemon runs or not.
    assert_eq!(claims(&binld), before);
    assert_eq!(references(&mtftpd, "initrd.img"), ["10.77.0.11"]);
    let ended = mtftpd.stop();
    assert_eq!((ended.code, ended.signal), (Some(0), None), "{}", ended.log);
    mtftpd.start();
    assert_eq!(references(&mtftpd, "rom.img"), ["10.77.0.11"]);
    binld.start();
    assert_eq!(["initrd.img", "rom.img"].map(|file| until_held(&binld, file)), places);
    assert_eq!(mtftpd.stop().code, Some(0));
}

#[test]
fn a_wrong_configuration_on_reload_changes_nothing() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mut mtftpd = start_mtftpd(&mut lab);
    let mut binld = start_binld(&mut lab, 1, PINNED_ITEM);
    until_held(&binld, "initrd.img");
    let host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Ipxe, host.address());
    let socket = host.bind(68);
    let server = SocketAddrV4::new(binld.host().address(), DISCOVERY_PORT);

    let right = binld_config(&[mtftpd.host().address()], PINNED_ITEM);
    binld.write_config(&right.replace("multicast =", "mutlicast ="));
    binld.signal(Signal::HUP);
    let log =
        eventually("a refusal in the log", || Some(binld.log()).filter(|log| log.contains("mutlicast")));
    assert!(log.contains("did you mean `multicast`?") && log.contains("binld1.toml:"), "{log}");
    mtftpd.write_config("blocksize = 1\n");
    mtftpd.signal(Signal::HUP);
    eventually("a refusal in the log", || mtftpd.log().contains("blocksize").then_some(()));

    assert!(binld.is_running() && mtftpd.is_running());
    assert!(held(&binld, "initrd.img").is_some());
    let answer = ask(&socket, server, &machine.question(Form::Request, TYPE, 0)).expect("an answer");
    assert_eq!(answer.uri().as_deref(), Some("mtftp://10.77.0.21:1759/initrd.img"));

    // And a right one is taken, after all.
    binld.write_config(&right.replace("0x8001", "0x8005"));
    binld.signal(Signal::HUP);
    eventually("an answer for the new type", || {
        let answer = ask(&socket, server, &machine.question(Form::Request, 0x8005, 0))?;
        (answer.tag(71)? == [0x80, 5, 0, 0]).then_some(())
    });
}

#[test]
fn status_is_for_people_and_for_programs() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mtftpd = start_mtftpd(&mut lab);
    let mut binld = start_binld(&mut lab, 1, PINNED_ITEM);
    until_held(&binld, "initrd.img");
    for daemon in [&binld, &mtftpd] {
        let output = daemon.ask(&["status"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(text.contains("239.255.1.1") && text.contains("initrd.img"), "{text}");
        assert!(daemon.status()["counters"].as_object().unwrap().len() > 5);
    }
    binld.stop();
    let output = binld.ask(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no daemon answers"), "{said}");
}

#[test]
fn every_boot_leaves_one_line_for_each_step() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let _mtftpd = start_mtftpd(&mut lab);
    let binld = start_binld(&mut lab, 1, &format!("[log]\njson = true\n{PINNED_ITEM}"));
    until_held(&binld, "initrd.img");
    let host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Ipxe, host.address());
    let server = SocketAddrV4::new(binld.host().address(), DISCOVERY_PORT);
    assert!(ask(&host.bind(68), server, &machine.question(Form::Request, TYPE, 0)).is_some());
    let steps = eventually("a line about the answer", || {
        let log = binld.log();
        let lines = log.lines().map(|line| serde_json::from_str(line).expect("each line is JSON"));
        let ours = lines.filter(|line: &Value| line["mac"] == "52:54:00:77:00:65");
        let ours: Vec<Value> = ours.collect();
        (ours.len() >= 2).then_some(ours)
    });
    assert_eq!(steps.len(), 2, "asked, answered: {steps:?}");
    assert!(steps.iter().all(|step| step["item"] == "debian"), "{steps:?}");
    assert!(steps[1].to_string().contains("239.255.1.1"), "{steps:?}");
}

#[test]
fn programs_say_their_version_and_refuse_what_they_do_not_know() {
    for name in ["binld", "mtftpd", "pxemc-db"] {
        let run = |argument| Command::new(program(name)).arg(argument).output().unwrap();
        let version = run("--version");
        assert_eq!(
            String::from_utf8(version.stdout).unwrap(),
            format!("{name} {}\n", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!(run("--no-such-flag").status.code(), Some(2), "{name}");
    }
}
