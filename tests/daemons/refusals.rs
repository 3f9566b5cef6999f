//! What is refused at start, with what is wrong and what would be right; and what `check` prints.

use std::fs;

use sim::boot_net::{DYNAMIC_ITEM, PINNED_ITEM, binld_config, boot_files, start};
use sim::daemon::{Daemon, Kind, program};
use sim::lab::{Host, Lab};

/// Exit codes of the daemons (driver::host).
const FAILURE: i32 = 1;
const CONFIG: i32 = 78;

/// Starts in vain; the log must say all of `words`.
#[track_caller]
fn refused(daemon: &mut Daemon, code: i32, words: &[&str]) {
    let ended = daemon.start_in_vain();
    assert_eq!(ended.code, Some(code), "{}", ended.log);
    for word in words {
        assert!(ended.log.contains(word), "`{word}` is not in: {}", ended.log);
    }
}

fn binld(lab: &Lab, host: &Host, name: &str, rest: &str) -> Daemon {
    Daemon::new(lab, host, Kind::Binld, name, &binld_config(&[host.address()], rest))
}

#[test]
fn what_check_prints_parses_back() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let host = lab.host("one", 1);
    let items = format!("{PINNED_ITEM}{DYNAMIC_ITEM}");
    let daemons = [binld(&lab, &host, "binld", &items), Daemon::new(&lab, &host, Kind::Mtftpd, "mtftpd", "")];
    for daemon in daemons {
        let (code, printed, said) = daemon.check();
        assert_eq!(code, Some(0), "{said}");
        daemon.write_raw_config(&printed);
        assert_eq!(daemon.check(), (Some(0), printed.clone(), said), "{printed}");
        assert!(printed.contains("state_dir") && printed.contains("interface"), "{printed}");
    }
}

#[test]
fn a_wrong_configuration_is_refused_with_its_line() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let host = lab.host("one", 1);
    let mut one = binld(&lab, &host, "one", "");
    let all = binld_config(&[host.address()], PINNED_ITEM);
    let forbidden = format!("[pool]\nfirst = \"224.0.0.1\"\nlast = \"224.0.1.255\"\n{all}");
    let wrong: [(&str, &[&str]); 4] = [
        (
            &all.replace("pinned =", "pined ="),
            &["one.toml:", "unknown key `pined`", "did you mean `pinned`?"],
        ),
        (&forbidden, &["one.toml:", "224.0.0"]),
        (&all.replace("0x8001", "0x18001"), &["one.toml:"]),
        ("[pool\n", &["one.toml:4:"]),
    ];
    for (config, words) in wrong {
        one.write_config(config);
        refused(&mut one, CONFIG, words);
        let (code, printed, said) = one.check();
        assert_eq!((code, printed.as_str()), (Some(CONFIG), ""), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    one.write_raw_config(&format!("interface = \"nosuch0\"\n{all}"));
    refused(&mut one, CONFIG, &["one.toml:1:", "no network interface `nosuch0`", "eth0"]);

    let mut files = Daemon::new(&lab, &host, Kind::Mtftpd, "files", "");
    files.write_raw_config("interface = \"eth0\"\nboot_dir = \"/nonexistent/boot\"\n");
    refused(&mut files, CONFIG, &["files.toml:2:", "/nonexistent/boot"]);
    fs::remove_file(files.config_file()).unwrap();
    refused(&mut files, CONFIG, &["files.toml", "cannot be read"]);
}

#[test]
fn a_port_in_use_is_named_with_who_may_have_it() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let host = lab.host("one", 1);
    for (kind, port) in [(Kind::Binld, 4011), (Kind::Binld, 4016), (Kind::Mtftpd, 69), (Kind::Mtftpd, 1759)] {
        let _taken = host.bind(port);
        let name = format!("{}-{port}", kind.name());
        let config =
            if kind == Kind::Binld { binld_config(&[host.address()], PINNED_ITEM) } else { String::new() };
        let mut daemon = Daemon::new(&lab, &host, kind, &name, &config);
        refused(&mut daemon, FAILURE, &[&format!("10.77.0.1:{port}"), "in use"]);
    }
}

#[test]
fn a_second_daemon_on_one_address_says_why_it_does_not_start() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let host = lab.host("one", 1);
    let mut first = start(&lab, &host, Kind::Binld, "first", &binld_config(&[host.address()], PINNED_ITEM));
    // Each has folders of its own: what they share is the address.
    let mut second = binld(&lab, &host, "second", PINNED_ITEM);
    refused(&mut second, FAILURE, &["10.77.0.1:4015", "in use", "one binld"]);
    let mut files = start(&lab, &host, Kind::Mtftpd, "files", "");
    let mut more_files = Daemon::new(&lab, &host, Kind::Mtftpd, "more", "");
    refused(&mut more_files, FAILURE, &["10.77.0.1:", "in use", "one mtftpd"]);
    assert!(first.is_running() && files.is_running());

    // The same configuration a second time: the control socket says it.
    let mut again = binld(&lab, &host, "first", PINNED_ITEM);
    refused(&mut again, FAILURE, &["another daemon answers"]);
    assert!(first.ask(&["status"]).status.success(), "the first one still has its socket");
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let host = lab.host("one", 1);
    for kind in [Kind::Binld, Kind::Mtftpd] {
        let config =
            if kind == Kind::Binld { binld_config(&[host.address()], PINNED_ITEM) } else { String::new() };
        let mut daemon = start(&lab, &host, kind, kind.name(), &config);
        daemon.stop();
        raise_version(&daemon);
        let before = fs::read(daemon.store()).unwrap();
        refused(&mut daemon, FAILURE, &["newer", &format!("{}.db", kind.name())]);
        assert_eq!(fs::read(daemon.store()).unwrap(), before);
        let dump =
            std::process::Command::new(program("pxemc-db")).arg("dump").arg(daemon.store()).output().unwrap();
        assert!(!dump.status.success() && String::from_utf8_lossy(&dump.stderr).contains("newer"));
    }
}

/// `PRAGMA user_version` is a number of four bytes at byte 60 of the file (sqlite.org/fileformat.html § 1.3).
fn raise_version(daemon: &Daemon) {
    let mut bytes = fs::read(daemon.store()).unwrap();
    assert!(bytes.starts_with(b"SQLite format 3\0"));
    bytes[60..64].copy_from_slice(&1_000_000_u32.to_be_bytes());
    fs::write(daemon.store(), bytes).unwrap();
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let host = lab.host("one", 1);
    for kind in [Kind::Binld, Kind::Mtftpd] {
        let config =
            if kind == Kind::Binld { binld_config(&[host.address()], PINNED_ITEM) } else { String::new() };
        let mut daemon = Daemon::new(&lab, &host, kind, kind.name(), &config);
        fs::remove_dir(daemon.state_dir()).unwrap();
        fs::write(daemon.state_dir(), "a file where a folder should be").unwrap();
        let state_dir = daemon.state_dir().display().to_string();
        refused(&mut daemon, CONFIG, &[&state_dir, "is not a directory"]);
        fs::remove_file(daemon.state_dir()).unwrap();
        fs::create_dir(daemon.state_dir()).unwrap();
        // Root may write anywhere but on a read-only file system.
        daemon.spawn_read_only();
        let ended = daemon.wait_end();
        assert_ne!(ended.code, Some(0));
        assert!(ended.log.contains(&state_dir) && ended.log.contains("writable"), "{}", ended.log);
    }
}
