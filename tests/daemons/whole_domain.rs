//! What the store of any member shows of the whole domain (issue 4).

use serde_json::Value;
use sim::boot_net::{
    DYNAMIC_ITEM, PINNED_ITEM, binld_config, boot_files, counter, held, references, start_binld,
    start_mtftpd, until_held,
};
use sim::daemon::{Daemon, Kind, program};
use sim::lab::{Lab, eventually};

/// Address, file, owner and who is responsible, of every claim that the dump of that daemon shows, in order.
fn claims(daemon: &Daemon) -> Vec<[String; 4]> {
    let records = daemon.dump();
    let shown = records.iter().filter(|it| it["record"] == "claim" || it["record"] == "replica");
    let text = |value: &Value| value.as_str().unwrap_or("owner").to_owned();
    let row = |it: &Value| ["address", "file", "owner", "responsible"].map(|column| text(&it[column]));
    let held = shown.filter(|it| it["state"] == "held");
    let mut rows: Vec<[String; 4]> = held.map(row).collect();
    rows.sort();
    rows
}

fn id(daemon: &Daemon) -> String {
    daemon.status()["server"].as_str().unwrap().to_owned()
}

#[test]
fn the_dump_of_any_member_shows_all_claims_and_who_is_responsible() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mut mtftpd = start_mtftpd(&mut lab);
    let mut binlds = [start_binld(&mut lab, 1, PINNED_ITEM), start_binld(&mut lab, 2, DYNAMIC_ITEM)];
    let pinned = until_held(&binlds[0], "initrd.img");
    let dynamic = until_held(&binlds[1], "rom.img");
    let (first, second) = (id(&binlds[0]), id(&binlds[1]));
    let row = |group: std::net::Ipv4Addr, file: &str, owner: &str, responsible: &str| {
        [group.to_string(), file.to_owned(), owner.to_owned(), responsible.to_owned()]
    };
    let mut all = vec![
        row(pinned.group, "initrd.img", &first, "owner"),
        row(dynamic.group, "rom.img", &second, "owner"),
    ];
    all.sort();
    for daemon in binlds.iter().chain([&mtftpd]) {
        eventually("all claims in every store", || (claims(daemon) == all).then_some(()));
    }
    // The other boot server dies: who is left says who was responsible, and since when it is not there.
    binlds[1].kill();
    let orphaned = row(dynamic.group, "rom.img", &second, "unreachable owner");
    for daemon in [&binlds[0], &mtftpd] {
        eventually("the dead owner is named", || claims(daemon).contains(&orphaned).then_some(()));
        let missing =
            daemon.dump().into_iter().find(|it| it["record"] == "member" && it["server"] == *second);
        assert!(missing.unwrap()["unreachable_since_ms"].is_u64());
    }
    // The dump is the same when nobody runs, and the store is whole.
    let before = [claims(&binlds[0]), claims(&mtftpd)];
    assert_eq!(binlds[0].stop().code, Some(0));
    assert_eq!(mtftpd.stop().code, Some(0));
    assert_eq!([claims(&binlds[0]), claims(&mtftpd)], before);
    for daemon in [&binlds[0], &mtftpd] {
        let checked =
            std::process::Command::new(program("pxemc-db")).arg("check").arg(daemon.store()).output();
        assert!(checked.unwrap().status.success());
        let shown = std::process::Command::new(program("pxemc-db")).arg("dump").arg(daemon.store()).output();
        let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
        assert!(shown.contains("claims of the domain: 2, of others "), "{shown}");
        assert!(!shown.contains("last alive  never"), "{shown}");
    }
}

/// A machine was made from the image of another one: both have its name. Clients of both are served all the same.
#[test]
fn two_boot_servers_with_one_name_are_told_of_and_both_go_on() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mtftpd = start_mtftpd(&mut lab);
    let nothing =
        "[[item]]\nname = \"none\"\ntype = 0x8004\n[[item.boot]]\nprofile = \"tftp\"\nfile = \"ipxe.efi\"\n";
    let mut first = start_binld(&mut lab, 1, nothing);
    assert_eq!(first.stop().code, Some(0));
    let host = lab.host("binld2", 12);
    let others = DYNAMIC_ITEM.replace("rom", "initrd").replace("0x8002", "0x8003");
    let config = binld_config(&[mtftpd.host().address()], &others.replace("pxe-initrd", "pxe-rom"));
    let mut second = Daemon::new(&lab, &host, Kind::Binld, "binld2", &config);
    std::fs::copy(first.store(), second.store()).unwrap();
    first.write_config(&binld_config(&[mtftpd.host().address()], DYNAMIC_ITEM));
    first.start();
    second.start();
    assert_eq!(id(&first), id(&second));
    let places = || [held(&first, "rom.img"), held(&second, "initrd.img")];
    let all_held = || places().into_iter().collect::<Option<Vec<_>>>();
    let before = eventually("both hold what they offer", all_held);
    for daemon in [&first, &second] {
        eventually("each names the other", || daemon.log().contains("has our id").then_some(()));
    }
    // Their records have crossed by then, many times.
    eventually("hellos", || (counter(&first, "hello.heard") > 40).then_some(()));
    let after = eventually("both still hold it", all_held);
    assert_eq!(after, before);
    assert_ne!(after[0].group, after[1].group);
    for (file, binld) in [("rom.img", &first), ("initrd.img", &second)] {
        assert_eq!(references(&mtftpd, file), [binld.host().address().to_string()]);
    }
}
