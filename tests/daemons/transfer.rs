//! Files by multicast and by plain TFTP, every byte of them.

use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sim::boot_net::{
    DYNAMIC_ITEM, PINNED_ITEM, Place, TYPE, binld_config, boot_files, counter, held, pattern, start,
    start_binld, start_mtftpd, until_held,
};
use sim::daemon::{Daemon, Kind};
use sim::lab::{Host, Lab, PATIENCE, eventually};
use sim::pxe_client::{DISCOVERY_PORT, Firmware, Form, Machine, ask, receive};
use sim::transfer_client::{MtftpClient, Outcome, Received, Stream, Traffic, read_request, tftp, traffic};

const FILE: &str = "initrd.img";

/// A network on which the file of `len` bytes is held, and three machines.
struct Net {
    lab: Lab,
    mtftpd: Daemon,
    _binld: Daemon,
    place: Place,
    machines: Vec<Host>,
    file: Vec<u8>,
}

impl Net {
    fn new(len: usize) -> Self {
        let mut lab = Lab::new();
        boot_files(&lab);
        let file = pattern(len);
        lab.boot_file(FILE, &file);
        let mtftpd = start_mtftpd(&mut lab);
        let binld = start_binld(&mut lab, 1, PINNED_ITEM);
        let place = until_held(&binld, FILE);
        let machines = (0..3).map(|number| lab.host(&format!("machine{number}"), 101 + number)).collect();
        Self { lab, mtftpd, _binld: binld, place, machines, file }
    }

    fn stream(&self) -> Stream {
        self.place.stream(&self.mtftpd, FILE)
    }

    /// Each machine opens when it has heard so many packets of the stream; they all listen from the start.
    fn receive(&self, heard_before: [usize; 3]) -> Vec<Received> {
        let barrier = &Barrier::new(3);
        thread::scope(|scope| {
            let started: Vec<_> = self
                .machines
                .iter()
                .zip(heard_before)
                .map(|(machine, count)| {
                    let mut client = MtftpClient::new(machine, self.stream());
                    scope.spawn(move || {
                        barrier.wait();
                        client.listen(count);
                        client.fetch()
                    })
                })
                .collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn check(&self, received: &[Received]) {
        for (number, received) in received.iter().enumerate() {
            assert!(received.bytes == self.file, "machine {number} has other bytes");
        }
    }
}

#[test]
fn three_machines_at_once_cost_one_packet_for_a_block() {
    let net = Net::new(500_000);
    let received = net.receive([0, 0, 0]);
    net.check(&received);
    let traffic = traffic(&received);
    // The last block is held back until all have the others. Where one was slow, each gets it alone, as soon as it has all others.
    let is_last_alone = traffic.blocks == 976 && traffic.unicast >= received.len();
    assert!(traffic.blocks == 977 || is_last_alone, "{traffic:?}");
    // Needless copies come of resends on a host that is slow to schedule: few, never one for each block as with
    // servers that send every block twice.
    assert!(traffic.needless * 5 < traffic.blocks && traffic.unicast * 5 < traffic.blocks, "{traffic:?}");
}

#[test]
fn late_machines_are_made_whole_by_what_they_lack() {
    let net = Net::new(500_000);
    let received = net.receive([0, 100, 900]);
    net.check(&received);
    let Traffic { blocks, repair, needless, unicast, .. } = traffic(&received);
    // The last one lacks 900 blocks, give or take what was under way; the first has them all.
    assert!(repair >= 850, "{repair}");
    assert!(needless * 5 < blocks && unicast * 5 < blocks, "{needless} needless, {unicast} unicast");
}

#[test]
fn loss_is_made_good() {
    let net = Net::new(300_000);
    net.machines[1].lose_percent(3, net.place.client_port);
    net.machines[2].lose_percent(10, net.place.client_port);
    let received = net.receive([0, 0, 50]);
    net.check(&received);
}

#[test]
fn files_of_awkward_sizes_end_where_they_should() {
    let net = Net::new(512 * 3);
    // A file of whole blocks ends with an empty one.
    let received = net.receive([0, 0, 0]);
    net.check(&received);
    for (number, len) in [0, 1, 511, 512, 513, 1468 * 3, 1468 * 3 + 1].into_iter().enumerate() {
        let name = format!("{len}.bin");
        net.lab.boot_file(&name, &pattern(len));
        for options in [&[][..], &[("blksize", "1468"), ("tsize", "0")], &[("blksize", "8")]] {
            if len > 2000 && options == [("blksize", "8")] {
                continue;
            }
            let socket = net.machines[number % 3].bind(0);
            let fetched = tftp(&socket, net.mtftpd.host().address(), name.as_bytes(), options);
            assert!(fetched.outcome == Outcome::File(pattern(len)), "{name} with {options:?}");
            assert_eq!(fetched.options.len(), options.len(), "{:?}", fetched.options);
            if options.len() == 2 {
                assert_eq!(fetched.options["tsize"], len.to_string());
                assert_eq!(fetched.options["blksize"], "1468");
            }
        }
    }
}

#[test]
fn a_file_of_more_than_65535_blocks_rolls_over() {
    let mut lab = Lab::new();
    let file = pattern(512 * 65_536 + 512 * 9 + 1);
    lab.boot_file("big", &file);
    let mtftpd = start_mtftpd(&mut lab);
    let host = lab.host("machine", 101);
    let fetched = tftp(&host.bind(0), mtftpd.host().address(), b"big", &[]);
    let whole = matches!(&fetched.outcome, Outcome::File(bytes) if *bytes == file);
    assert!(whole, "not the file");
}

#[test]
fn uefi_firmware_gets_its_file_after_a_size_probe() {
    let mut lab = Lab::new();
    let file = pattern(200_000);
    lab.boot_file("ipxe.efi", &file);
    let mtftpd = start_mtftpd(&mut lab);
    let server = mtftpd.host().address();
    let host = lab.host("machine", 101);
    // The probe: EDK2 asks for the size and ends it with ERROR 8 (pxe.md B.2).
    let probe = host.bind(0);
    let options = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
    let request = read_request(b"ipxe.efi", &options);
    probe.send_to(&request, SocketAddrV4::new(server, 69)).unwrap();
    let (bytes, from) = receive(&probe, PATIENCE).expect("an OACK");
    assert_eq!(bytes[..2], [0, 6], "{:?}", String::from_utf8_lossy(&bytes));
    assert!(
        bytes.windows(13).any(|part| part == b"tsize\x00200000\0"),
        "{:?}",
        String::from_utf8_lossy(&bytes)
    );
    probe.send_to(b"\0\x05\0\x08User aborted the transfer\0", from).unwrap();
    let fetched = tftp(&host.bind(0), server, b"ipxe.efi", &options[1..]);
    assert_eq!(fetched.outcome, Outcome::File(file));
    assert_eq!(fetched.options["windowsize"], "4");
    assert_eq!(counter(&mtftpd, "tftp.probe"), 1);
}

#[test]
fn windows_of_any_size_carry_every_byte() {
    let mut lab = Lab::new();
    let file = pattern(1468 * 100);
    lab.boot_file("f", &file);
    let mtftpd = start_mtftpd(&mut lab);
    let host = lab.host("machine", 101);
    for (asked, granted) in [("1", "1"), ("2", "2"), ("7", "7"), ("64", "64"), ("65535", "64")] {
        let options = [("blksize", "1468"), ("windowsize", asked)];
        let fetched = tftp(&host.bind(0), mtftpd.host().address(), b"f", &options);
        assert!(fetched.outcome == Outcome::File(file.clone()), "windowsize {asked}: not the file");
        assert_eq!(fetched.options["windowsize"], granted);
    }
    // Every twentieth packet to it is lost.
    let socket = host.bind(3000);
    host.lose_percent(5, 3000);
    let fetched = tftp(&socket, mtftpd.host().address(), b"f", &[("blksize", "1468"), ("windowsize", "16")]);
    assert!(fetched.outcome == Outcome::File(file), "not the file");
}

/// Where the kernel does not cut a window apart, its packets go one by one, and in fragments.
#[test]
fn windows_pass_a_link_of_small_packets() {
    let mut lab = Lab::new();
    let file = pattern(1468 * 50);
    lab.boot_file("f", &file);
    let mtftpd = start_mtftpd(&mut lab);
    let host = lab.host("machine", 101);
    let options = [("blksize", "1468"), ("windowsize", "16")];
    let fetch = || tftp(&host.bind(0), mtftpd.host().address(), b"f", &options).outcome;
    assert!(fetch() == Outcome::File(file.clone()), "not the file");
    assert_eq!(counter(&mtftpd, "udp.transfer.train_refused"), 0);
    let smaller = mtftpd.host().run(Path::new("ip"), &["link", "set", "eth0", "mtu", "1300"]);
    assert!(smaller.status.success(), "{smaller:?}");
    assert!(fetch() == Outcome::File(file), "not the file");
    assert_ne!(counter(&mtftpd, "udp.transfer.train_refused"), 0);
    assert_eq!(counter(&mtftpd, "udp.transfer.send_failed"), 0);
}

#[test]
fn windows_can_be_turned_off() {
    let mut lab = Lab::new();
    let file = pattern(5_000);
    lab.boot_file("f", &file);
    let host = lab.host("mtftp1", 21);
    let mtftpd = start(&lab, &host, Kind::Mtftpd, "mtftpd", "[tftp]\nwindow_size_max = 1\n");
    let options = [("blksize", "1468"), ("windowsize", "16")];
    let fetched = tftp(&lab.host("machine", 101).bind(0), mtftpd.host().address(), b"f", &options);
    assert_eq!(fetched.outcome, Outcome::File(file));
    assert_eq!(fetched.options.keys().collect::<Vec<_>>(), ["blksize"]);
}

#[test]
fn block_numbers_roll_over_in_the_middle_of_a_window() {
    let mut lab = Lab::new();
    let file = pattern(8 * 131_200 + 3);
    lab.boot_file("f", &file);
    let mtftpd = start_mtftpd(&mut lab);
    let host = lab.host("machine", 101);
    for rollover in ["0", "1"] {
        let options = [("blksize", "8"), ("windowsize", "60"), ("rollover", rollover)];
        let fetched = tftp(&host.bind(0), mtftpd.host().address(), b"f", &options);
        assert!(fetched.outcome == Outcome::File(file.clone()), "rollover {rollover}: not the file");
        assert_eq!(fetched.options["rollover"], rollover);
    }
}

#[test]
fn a_file_that_changes_under_a_transfer_ends_it() {
    let mut lab = Lab::new();
    // Longer than what is read at once for who takes block by block.
    const BYTES: usize = 100_000;
    let (old, new) = (pattern(BYTES), pattern(BYTES + 1));
    lab.boot_file("changing", &old);
    let mtftpd = start_mtftpd(&mut lab);
    let host = lab.host("machine", 101);
    let socket = host.bind(0);
    let next = || receive(&socket, PATIENCE).expect("a packet");
    let request = read_request(b"changing", &[]);
    socket.send_to(&request, SocketAddrV4::new(mtftpd.host().address(), 69)).unwrap();
    let (first, from) = next();
    assert_eq!(first, [&[0, 3, 0, 1], &old[..512]].concat());
    // In place, and of the same length: only its time tells.
    lab.boot_file("changing", &new[..BYTES]);
    let mut block = 1_u16;
    loop {
        let [high, low] = block.to_be_bytes();
        socket.send_to(&[0, 4, high, low], from).unwrap();
        let (packet, _) = next();
        if packet[..2] == [0, 5] {
            break;
        }
        // What was read before the change may still come, but nothing of the new file.
        let sent = u16::from_be_bytes([packet[2], packet[3]]);
        let at = (usize::from(sent) - 1) * 512;
        assert_eq!(packet[4..], old[at..(at + 512).min(BYTES)], "block {sent}");
        assert!(block < 100, "the old file goes on although it is gone");
        block = sent;
    }
    let again = tftp(&host.bind(0), mtftpd.host().address(), b"changing", &[]);
    assert!(again.outcome == Outcome::File(new[..BYTES].to_vec()), "the new file");
}

#[test]
fn a_boot_rom_loads_its_file_from_the_address_it_was_told() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let host = lab.host("both", 31);
    let _mtftpd = start(&lab, &host, Kind::Mtftpd, "mtftpd", "");
    // Cleared only when the client asks: it waits, and the answer comes in time.
    let items = DYNAMIC_ITEM.replace("type = 0x8002", "type = 0x8002\npreclear = false");
    let binld = start(&lab, &host, Kind::Binld, "binld", &binld_config(&[host.address()], &items));
    let machine_host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Rom, machine_host.address());
    let socket = machine_host.bind(machine.firmware.source_port());
    let server = SocketAddrV4::new(host.address(), DISCOVERY_PORT);
    // Plain TFTP, if this machine is too busy for a client's patience; then the claim goes on, and is there later.
    let (group, client_port, server_port) = eventually("an answer with an address", || {
        ask(&socket, server, &machine.question(Form::Request, 0x8002, 0))?.multicast()
    });
    assert_eq!(held(&binld, "rom.img"), Some(Place { group, client_port, server_port }));
    let stream = Stream {
        server: SocketAddrV4::new(host.address(), server_port),
        same_port: true,
        group: SocketAddrV4::new(group, client_port),
        file: "rom.img".to_owned(),
    };
    assert!(MtftpClient::new(&machine_host, stream).fetch().bytes == pattern(30_000), "other bytes");
}

/// UEFI firmware that asked by unicast takes its file from the boot server's own address, whatever else the answer says
/// (pxe.md H): a file server beside the boot server serves it there.
#[test]
fn a_boot_server_with_a_file_server_beside_it_serves_uefi_firmware() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let host = lab.host("both", 31);
    let mtftpd = start(&lab, &host, Kind::Mtftpd, "mtftpd", "");
    let binld = start(&lab, &host, Kind::Binld, "binld", &binld_config(&[host.address()], PINNED_ITEM));
    let machine_host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Edk2, machine_host.address());
    let socket = machine_host.bind(machine.firmware.source_port());
    let server = SocketAddrV4::new(host.address(), DISCOVERY_PORT);
    let answer = eventually("an answer", || ask(&socket, server, &machine.question(Form::Request, TYPE, 0)));
    assert_eq!((answer.from, answer.siaddr), (server, host.address()));
    assert_eq!(answer.option(54), Some(host.address().octets().as_slice()));
    // Nothing redirects it: no list of servers, and no word that only listed ones count.
    assert_eq!((answer.tag(6), answer.tag(8), answer.tag(1)), (Some([0].as_slice()), None, None));
    let options = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
    let probe = machine_host.bind(0);
    let request = read_request(answer.file.as_bytes(), &options);
    probe.send_to(&request, SocketAddrV4::new(*answer.from.ip(), 69)).unwrap();
    let (bytes, from) = receive(&probe, PATIENCE).expect("an OACK");
    assert_eq!((&bytes[..2], from.ip()), ([0, 6].as_slice(), answer.from.ip()));
    probe.send_to(b"\0\x05\0\x08User aborted the transfer\0", from).unwrap();
    let fetched = tftp(&machine_host.bind(0), *answer.from.ip(), answer.file.as_bytes(), &options[1..]);
    assert_eq!(fetched.outcome, Outcome::File(pattern(3_000)));
    assert_eq!(fetched.options["windowsize"], "4");
    // Both live on the address, the pinned file is held, and the boot server's references are there.
    until_held(&binld, FILE);
    assert_eq!(counter(&mtftpd, "tftp.complete"), 1);
}

/// Says that something is over, also when it panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn hostile_datagrams_do_not_hurt_a_transfer() {
    let mut net = Net::new(500_000);
    // A host of its own: what one address may ask for is limited, and it would spend what a machine has.
    let stranger = net.lab.host("stranger", 66).bind(0);
    let server = net.stream().server;
    let over = AtomicBool::new(false);
    let received = thread::scope(|scope| {
        let over = &over;
        scope.spawn(move || {
            let noise = pattern(70_000);
            // ACKs of all blocks, ERRORs, opens of nothing and of the file, noise: until the transfer is over.
            for number in (0..=u16::MAX).take_while(|_| !over.load(Ordering::Relaxed)) {
                let [high, low] = number.to_be_bytes();
                let opens = read_request(FILE.as_bytes(), &[]);
                let noise = &noise[usize::from(number)..][..40];
                for bytes in
                    [&[0, 4, high, low][..], &[0, 5, high, low, 0], b"\0\x01x\0octet\0", &opens, noise]
                {
                    let _ = stranger.send_to(bytes, server);
                }
            }
        });
        let _ends = Ends(over);
        net.receive([0, 0, 50])
    });
    net.check(&received);
}
