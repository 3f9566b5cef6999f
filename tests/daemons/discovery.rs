//! Boot server discovery by the firmware there is (R003.1, R003.2, R003.21).

use std::net::{Ipv4Addr, SocketAddrV4};

use sim::boot_net::{
    DYNAMIC_ITEM, PINNED_ITEM, TYPE, boot_files, counter, start_binld, start_mtftpd, until_held,
};
use sim::lab::{Lab, eventually};
use sim::pxe_client::{Answer, DISCOVERY_PORT, Firmware, Form, Machine, ask};

const DISCOVERY_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 2);

/// What every answer to every client has (pxe.md, consequences 4–8).
fn check_answer(answer: &Answer, machine: &Machine, server: SocketAddrV4, server_type: u16) {
    assert_eq!(answer.from, server);
    assert_eq!(answer.xid, if machine.firmware == Firmware::Ipxe { 0 } else { machine.xid });
    assert_eq!(answer.yiaddr, machine.address);
    assert_eq!(answer.mac, machine.mac());
    assert_eq!(answer.option(54), Some(server.ip().octets().as_slice()));
    assert_eq!(answer.option(97).unwrap()[1..], machine.uuid());
    let [high, low] = server_type.to_be_bytes();
    assert_eq!(answer.tag(71), Some([high, low, 0, 0].as_slice()));
    assert!(answer.len <= 1472, "{} bytes", answer.len);
}

#[test]
fn ipxe_is_answered_by_unicast_multicast_and_inform() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mtftpd = start_mtftpd(&mut lab);
    let binld = start_binld(&mut lab, 1, PINNED_ITEM);
    until_held(&binld, "initrd.img");
    let host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Ipxe, host.address());
    let server = SocketAddrV4::new(binld.host().address(), DISCOVERY_PORT);
    let (rom_port, other_port) = (host.bind(68), host.bind(50_000));
    let mut answers = Vec::new();
    for to in [server, SocketAddrV4::new(DISCOVERY_GROUP, DISCOVERY_PORT)] {
        for form in [Form::Request, Form::Inform] {
            // To the port the question came from, whichever it is.
            for socket in [&rom_port, &other_port] {
                answers.push(ask(socket, to, &machine.question(form, TYPE, 0)).expect("an answer"));
            }
        }
    }
    for answer in &answers {
        check_answer(answer, &machine, server, TYPE);
        assert_eq!((answer.file.as_str(), answer.siaddr), ("boot.ipxe", mtftpd.host().address()));
        assert_eq!(answer.uri().as_deref(), Some("mtftp://10.77.0.21:1759/initrd.img"));
    }
    assert!(answers.iter().all(|answer| answer == &answers[0]), "one client, one answer");
}

#[test]
fn uefi_firmware_is_sent_to_the_file_server_for_plain_tftp() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mtftpd = start_mtftpd(&mut lab);
    let binld = start_binld(&mut lab, 1, PINNED_ITEM);
    let host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Edk2, host.address());
    let server = SocketAddrV4::new(binld.host().address(), DISCOVERY_PORT);
    let socket = host.bind(machine.firmware.source_port());
    let answer = eventually("an answer", || ask(&socket, server, &machine.question(Form::Request, TYPE, 0)));
    check_answer(&answer, &machine, server, TYPE);
    assert_eq!((answer.file.as_str(), answer.siaddr), ("ipxe.efi", mtftpd.host().address()));
    // Tags 6 and 8 send EDK2 to a file server on another host (pxe.md H); tags 1–5 would make it fail.
    assert_eq!(answer.tag(6), Some([8].as_slice()));
    assert_eq!(answer.tag(8), Some([0x80, 1, 1, 10, 77, 0, 21].as_slice()));
    assert_eq!((answer.tag(1), answer.uri()), (None, None));
}

#[test]
fn a_boot_rom_hears_of_multicast_only_where_the_file_server_is_the_boot_server() {
    use sim::boot_net::{binld_config, start};
    use sim::daemon::Kind;
    let mut lab = Lab::new();
    boot_files(&lab);
    let host = lab.host("both", 31);
    let _mtftpd = start(&lab, &host, Kind::Mtftpd, "mtftpd", "");
    let near = start(&lab, &host, Kind::Binld, "near", &binld_config(&[host.address()], DYNAMIC_ITEM));
    let place = until_held(&near, "rom.img");
    let far_host = lab.host("far", 32);
    let far = start(&lab, &far_host, Kind::Binld, "far", &binld_config(&[host.address()], DYNAMIC_ITEM));
    until_held(&far, "rom.img");
    let client = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Rom, client.address());
    let socket = client.bind(machine.firmware.source_port());
    let question = machine.question(Form::Request, 0x8002, 0);

    let server = SocketAddrV4::new(near.host().address(), DISCOVERY_PORT);
    let answer = ask(&socket, server, &question).expect("an answer");
    check_answer(&answer, &machine, server, 0x8002);
    assert_eq!(answer.multicast(), Some((place.group, place.client_port, place.server_port)));
    // EDK2 takes tags 1–5 for a mistake unless tag 6 is there; both readings of tags 4 and 5 must agree.
    assert_eq!(answer.tag(6), Some([0].as_slice()));
    assert_eq!(answer.tag(4), answer.tag(5));

    let server = SocketAddrV4::new(far.host().address(), DISCOVERY_PORT);
    let answer = ask(&socket, server, &question).expect("an answer");
    check_answer(&answer, &machine, server, 0x8002);
    assert_eq!((answer.multicast(), answer.siaddr), (None, host.address()));
}

#[test]
fn broadcasts_are_heard_only_where_that_is_configured() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let _mtftpd = start_mtftpd(&mut lab);
    let deaf = start_binld(&mut lab, 1, PINNED_ITEM);
    let hearing = start_binld(&mut lab, 2, &format!("[discovery]\nbroadcast = true\n{PINNED_ITEM}"));
    until_held(&deaf, "initrd.img");
    until_held(&hearing, "initrd.img");
    let host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Ipxe, host.address());
    let socket = host.bind(68);
    let question = machine.question(Form::Request, TYPE, 0);
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    let answer = ask(&socket, everybody, &question).expect("an answer");
    // From the port that was asked: another would be dropped by iPXE.
    check_answer(&answer, &machine, SocketAddrV4::new(hearing.host().address(), 67), TYPE);

    // The other one hears unicast after it, and has heard nothing else.
    let server = SocketAddrV4::new(deaf.host().address(), DISCOVERY_PORT);
    let answer = ask(&socket, server, &question).expect("an answer");
    check_answer(&answer, &machine, server, TYPE);
    assert_eq!(counter(&deaf, "discovery.heard"), 1);
}

#[test]
fn what_is_not_ours_is_met_with_silence() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let _mtftpd = start_mtftpd(&mut lab);
    let binld = start_binld(&mut lab, 1, PINNED_ITEM);
    until_held(&binld, "initrd.img");
    let host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Ipxe, host.address());
    let server = SocketAddrV4::new(binld.host().address(), DISCOVERY_PORT);
    let socket = host.bind(68);
    let send = |question: &[u8]| assert_eq!(socket.send_to(question, server).unwrap(), question.len());
    send(&machine.question(Form::Request, 0x9999, 0)); // a foreign type
    send(&machine.question(Form::Request, TYPE, 1)); // a layer above all there are
    send(&machine.question(Form::Request, TYPE, 0x8000)); // credentials, which we have not
    send(&Machine::new(Firmware::Rom, host.address()).question(Form::Request, TYPE, 0)); // no item for it
    // The first answer is the answer to the last question: nothing before it was answered.
    let last = Machine { number: 77, ..machine };
    let answer = ask(&socket, server, &last.question(Form::Request, TYPE, 0)).expect("an answer");
    check_answer(&answer, &last, server, TYPE);
    assert_eq!(counter(&binld, "discovery.unmatched"), 4);
}

#[test]
fn a_layer_that_is_not_there_falls_to_the_next() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let _mtftpd = start_mtftpd(&mut lab);
    let binld = start_binld(&mut lab, 1, &PINNED_ITEM.replace("type = 0x8001", "type = 0x8001\nlayer = 3"));
    until_held(&binld, "initrd.img");
    let host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Ipxe, host.address());
    let server = SocketAddrV4::new(binld.host().address(), DISCOVERY_PORT);
    let answer = ask(&host.bind(68), server, &machine.question(Form::Request, TYPE, 0)).expect("an answer");
    assert_eq!(answer.tag(71), Some([0x80, 1, 0, 3].as_slice()));
}
