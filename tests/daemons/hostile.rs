//! Every datagram may be hostile: what does not belong is dropped and counted, and the daemons serve on.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use sim::boot_net::{
    PINNED_ITEM, TYPE, boot_files, counters_with, held, pattern, references, start_binld, start_mtftpd,
    until_held,
};
use sim::lab::{Lab, eventually};
use sim::pxe_client::{DISCOVERY_PORT, Firmware, Form, Machine, ask};
use sim::transfer_client::{Fetched, Outcome, read_request, tftp};
use wire::query::{Opcode, Query};
use wire::{Content, FileName, GroupAddr, Layer, ServerType};

const QUERY_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 15);

/// A right message of each port, which is then spoilt.
fn right_messages(client: Ipv4Addr) -> Vec<Vec<u8>> {
    let machine = Machine::new(Firmware::Ipxe, client);
    let content =
        Content { server: Ipv4Addr::new(10, 77, 0, 21), file: FileName::new(b"initrd.img").unwrap() };
    let group = GroupAddr::new(Ipv4Addr::new(239, 255, 1, 1)).unwrap();
    let query = Query { content, server_type: ServerType(TYPE), layer: Layer(0), group, client_port: 3001 };
    // Key epoch 1, which nobody has: right in every field but refused, so that no state can come of it.
    let mut envelope = b"PXMC\x01\x01\0\0sixteen bytes id\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0".to_vec();
    assert_eq!(envelope.len(), 42);
    envelope.extend([0; 40]);
    vec![
        machine.question(Form::Request, TYPE, 0),
        query.encode(Opcode::Query),
        query.encode(Opcode::Echo),
        envelope,
        read_request(b"initrd.img", &[("blksize", "1432"), ("tsize", "0")]),
        vec![0, 4, 0, 1],
        b"\0\x05\0\x01no\0".to_vec(),
    ]
}

/// Random bytes, every truncation, single wrong bytes, trailing and oversized ones: about 1,600 datagrams.
fn bad_datagrams(client: Ipv4Addr) -> Vec<Vec<u8>> {
    let noise = pattern(400_000);
    let mut datagrams: Vec<Vec<u8>> = (0..500).map(|n| noise[n * 700..][..n * 4].to_vec()).collect();
    for right in right_messages(client) {
        // Of the long ones not every place, so that it is over soon.
        let step = right.len().div_ceil(80);
        datagrams.extend((0..right.len()).step_by(step).map(|len| right[..len].to_vec()));
        datagrams.extend((0..right.len()).step_by(step).map(|place| {
            let mut wrong = right.clone();
            wrong[place] ^= 0xff;
            wrong
        }));
        for extra in [1, 512, 1472, 2048, 8000, 60_000] {
            datagrams.push([right.as_slice(), &noise[..extra]].concat());
        }
        // And whole, where it mostly does not belong.
        datagrams.push(right);
    }
    datagrams
}

fn bombard(from: &UdpSocket, to: SocketAddrV4) -> usize {
    let datagrams = bad_datagrams(Ipv4Addr::new(10, 77, 0, 66));
    for datagram in &datagrams {
        // What the kernel refuses for want of room is as good as lost.
        let _ = from.send_to(datagram, to);
    }
    datagrams.len()
}

fn fetch(socket: &UdpSocket, server: Ipv4Addr) -> Fetched {
    tftp(socket, server, b"initrd.img", &[("blksize", "1432"), ("tsize", "0")])
}

#[test]
fn hostile_datagrams_are_counted_and_hurt_nobody() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mut mtftpd = start_mtftpd(&mut lab);
    let mut binld = start_binld(&mut lab, 1, PINNED_ITEM);
    let place = until_held(&binld, "initrd.img");
    let stranger = lab.host("stranger", 66);
    let (binld_ip, mtftpd_ip) = (binld.host().address(), mtftpd.host().address());
    let log_before = (binld.log().len(), mtftpd.log().len());
    let mut sent = 0;
    for source in [0, 68, 4015, 4016, 4017] {
        let socket = stranger.bind(source);
        for port in [4011, 4015, 4016] {
            sent += bombard(&socket, SocketAddrV4::new(binld_ip, port));
        }
        for port in [69, 1759, 1760, 4017] {
            sent += bombard(&socket, SocketAddrV4::new(mtftpd_ip, port));
        }
        sent += bombard(&socket, SocketAddrV4::new(QUERY_GROUP, 4015));
    }
    assert!(sent > 10_000, "{sent}");

    // A client that was not there before is served as if nothing had been.
    let host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Ipxe, host.address());
    let server = SocketAddrV4::new(binld_ip, DISCOVERY_PORT);
    let question = machine.question(Form::Request, TYPE, 0);
    let answer = eventually("an answer", || ask(&host.bind(68), server, &question));
    assert_eq!(answer.uri().as_deref(), Some("mtftp://10.77.0.21:1759/initrd.img"));
    assert_eq!(fetch(&host.bind(0), mtftpd_ip).outcome, Outcome::File(pattern(100_000)));

    for kind in ["dropped.discovery", "dropped.query", "dropped.control"] {
        assert!(counters_with(&binld, kind) > 100, "{kind}: {}", binld.status()["counters"]);
    }
    for kind in ["drop_query", "drop_control", "drop_mtftp", "drop_tftp"] {
        assert!(counters_with(&mtftpd, kind) > 100, "{kind}: {}", mtftpd.status()["counters"]);
    }
    for daemon in [&binld, &mtftpd] {
        assert!(counters_with(daemon, "oversize") > 10, "{}", daemon.status()["counters"]);
    }
    assert!(binld.is_running() && mtftpd.is_running());
    assert_eq!(held(&binld, "initrd.img"), Some(place));
    assert_eq!(references(&mtftpd, "initrd.img"), ["10.77.0.11"]);
    // ERROR is for what must not happen; and nobody may fill the log from outside.
    for (daemon, before) in [(&binld, log_before.0), (&mtftpd, log_before.1)] {
        let log = daemon.log();
        assert!(!log.contains("ERROR") && !log.contains("panic"), "{log}");
        assert!(log.len() - before < 100_000, "{} bytes of log for {sent} datagrams", log.len() - before);
    }
}

/// Names that would lead out of the boot folder, or are no names.
fn ways_out(secret: &str) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "../secret",
        "../../../../../../../../etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "folder/../../secret",
        "folder/../folder/../../secret",
        "./../secret",
        "link",
        "link-absolute",
        "link-up/secret",
        "folder/link-up/secret",
        "..\\secret",
        "..\\..\\etc\\passwd",
        "C:\\secret",
        "%2e%2e/secret",
        "%2e%2e%2fsecret",
        "..%2fsecret",
        "..%c0%afsecret",
        "....//secret",
        "..;/secret",
        "folder",
        "folder/",
        ".",
        "..",
        "/",
        "fifo",
        "~/secret",
        "file:///etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "no such file",
        " ",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.push(secret.as_bytes().to_vec());
    names.push(format!("/{secret}").into_bytes());
    names.push([b"../".repeat(60), b"etc/passwd".to_vec()].concat());
    names.push(b"a".repeat(255));
    names.push(b"a".repeat(256));
    names.push(b"a/".repeat(200));
    names.extend([
        b"..\xc0\xafsecret".to_vec(),
        b"\xff\xfe".to_vec(),
        b"secret\n".to_vec(),
        b"\x01\x1b[2J".to_vec(),
    ]);
    names
}

#[test]
fn no_name_leads_out_of_the_boot_folder() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let secret = lab.folder().join("secret");
    std::fs::write(&secret, "not for you").unwrap();
    let boot = lab.boot_dir();
    std::fs::create_dir(boot.join("folder")).unwrap();
    lab.boot_file("folder/inside", b"inside");
    for (target, link) in [
        ("../secret", "link"),
        (secret.to_str().unwrap(), "link-absolute"),
        ("..", "link-up"),
        ("../..", "folder/link-up"),
    ] {
        std::os::unix::fs::symlink(target, boot.join(link)).unwrap();
    }
    assert_eq!(std::fs::read(boot.join("link")).unwrap(), b"not for you", "the link does lead there");
    assert!(std::process::Command::new("mkfifo").arg(boot.join("fifo")).status().unwrap().success());
    let mtftpd = start_mtftpd(&mut lab);
    let server = mtftpd.host().address();
    let host = lab.host("stranger", 66);
    for (number, name) in ways_out(secret.to_str().unwrap()).into_iter().enumerate() {
        // A few requests from each address, because one address may ask 20 times a second.
        let address = Ipv4Addr::new(10, 77, 0, u8::try_from(200 + number / 10).unwrap());
        if number % 10 == 0 {
            host.add_address(address);
        }
        let fetched = tftp(&host.bind_at(address, 0), server, &name, &[]);
        let shown = String::from_utf8_lossy(&name).into_owned();
        let Outcome::Error(_, text) = &fetched.outcome else { panic!("{shown}: {:?}", fetched.outcome) };
        assert!(!text.contains("not for you") && !text.contains(boot.to_str().unwrap()), "{shown}: {text}");
    }
    // What is inside is served, below a folder too.
    let socket = host.bind(0);
    assert_eq!(tftp(&socket, server, b"folder/inside", &[]).outcome, Outcome::File(b"inside".to_vec()));
}

#[test]
fn nothing_is_written() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mtftpd = start_mtftpd(&mut lab);
    let host = lab.host("stranger", 66);
    let socket = host.bind(0);
    let mut request = read_request(b"new", &[]);
    request[1] = 2;
    let answer = eventually("an ERROR", || {
        socket.send_to(&request, SocketAddrV4::new(mtftpd.host().address(), 69)).unwrap();
        sim::pxe_client::receive(&socket, std::time::Duration::from_secs(1))
    });
    assert_eq!(answer.0[..4], [0, 5, 0, 2]);
    assert!(!lab.boot_dir().join("new").exists());
}
