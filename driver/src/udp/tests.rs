use std::time::Duration;

use super::*;
use crate::Transmit;

const LO: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn lo() -> Interface {
    Interface::find("lo", Some(LO)).unwrap()
}

fn spec(role: Role) -> DoorSpec {
    DoorSpec { role, address: LO, port: 0, groups: Vec::new(), broadcast: false, own: true }
}

fn open(specs: &[DoorSpec]) -> Doors {
    let doors = Doors::open(&lo(), specs, 1).unwrap();
    for door in doors.all() {
        // Tests wait for what must come instead of asking again and again.
        door.socket.set_nonblocking(false).unwrap();
        door.socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    doors
}

fn receive(door: &Door) -> (Vec<u8>, SocketAddrV4) {
    let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
    match door.receive(&mut buffer) {
        Received::Datagram(len, from) => (buffer[..len].to_vec(), from),
        other @ (Received::Dropped | Received::Empty) => panic!("{other:?} instead of a datagram"),
    }
}

fn count(doors: &Doors, name: &str) -> u64 {
    let counters = doors.counters();
    counters.iter().find(|(what, _)| what == name).unwrap_or_else(|| panic!("{name} in {counters:?}")).1
}

#[test]
fn unicast_goes_from_host_socket_to_host_socket() {
    let doors = open(&[spec(Role::Control), spec(Role::Mtftp(1759))]);
    let (from, to) = (doors.local(Role::Control).unwrap(), doors.local(Role::Mtftp(1759)).unwrap());
    assert!(doors.send(&Transmit { role: Role::Control, to, bytes: b"hello".to_vec() }));
    assert!(doors.send_to(Role::Control, to, b""));
    assert_eq!(receive(&doors.all()[1]), (b"hello".to_vec(), from));
    assert_eq!(receive(&doors.all()[1]), (Vec::new(), from));
    assert_eq!(count(&doors, "udp.control.sent"), 2);
    assert_eq!(count(&doors, "udp.mtftp-1759.received"), 2);
    assert_eq!(doors.local(Role::Tftp), None);
}

#[test]
fn a_host_socket_is_exclusive_and_the_refusal_says_why() {
    let first = open(&[spec(Role::Query)]);
    let port = first.local(Role::Query).unwrap().port();
    let refused = Doors::open(&lo(), &[DoorSpec { port, ..spec(Role::Query) }], 1).unwrap_err().to_string();
    assert!(refused.contains(&format!("UDP 127.0.0.1:{port} (query) is in use")), "{refused}");
    // Another address has the same port for itself.
    let address = Ipv4Addr::new(127, 0, 0, 2);
    Doors::open(&lo(), &[DoorSpec { address, port, ..spec(Role::Query) }], 1).unwrap();
}

#[test]
fn an_address_that_is_not_ours_is_refused() {
    let spec = DoorSpec { address: Ipv4Addr::new(198, 51, 100, 77), ..spec(Role::Discovery) };
    let refused = Doors::open(&lo(), &[spec], 1).unwrap_err().to_string();
    assert!(refused.contains("198.51.100.77 is not an address of this host"), "{refused}");
}

#[test]
fn a_group_is_heard_by_both_daemons_and_by_the_sender_but_not_at_the_host_socket() {
    let group = Ipv4Addr::new(239, 255, 255, 15);
    let owner = open(&[DoorSpec { groups: vec![group], ..spec(Role::Query) }]);
    let local = owner.local(Role::Query).unwrap();
    let shared =
        open(&[DoorSpec { port: local.port(), groups: vec![group], own: false, ..spec(Role::Query) }]);
    let to = SocketAddrV4::new(group, local.port());
    assert!(owner.send_to(Role::Query, to, b"question"));
    assert_eq!(receive(&owner.all()[1]), (b"question".to_vec(), local));
    assert_eq!(receive(&shared.all()[0]), (b"question".to_vec(), local));
    assert_eq!(owner.all()[1].bound, to);

    // Unicast comes to the host socket only, and the group's question never came there.
    assert!(owner.send_to(Role::Query, local, b"unicast"));
    assert!(owner.send_to(Role::Query, to, b"last"));
    assert_eq!(receive(&owner.all()[0]).0, b"unicast");
    assert_eq!(receive(&owner.all()[1]).0, b"last");
    assert_eq!(receive(&shared.all()[0]).0, b"last");
    assert_eq!(count(&owner, "udp.query.received"), 3);
}

#[test]
fn a_role_without_a_host_socket_sends_from_our_address_and_its_port() {
    let (address, group) = (Ipv4Addr::new(127, 0, 0, 3), Ipv4Addr::new(239, 255, 255, 16));
    let peer = open(&[spec(Role::Control)]);
    let port = peer.local(Role::Control).unwrap().port();
    let spec = DoorSpec { address, port, groups: vec![group], own: false, ..spec(Role::Query) };
    let doors = open(&[spec]);
    assert_eq!(doors.local(Role::Query), None);
    assert!(doors.send_to(Role::Query, peer.local(Role::Control).unwrap(), b"echo"));
    assert_eq!(receive(&peer.all()[0]), (b"echo".to_vec(), SocketAddrV4::new(address, port)));
    // To its own group too: heard again, from our address.
    assert!(doors.send_to(Role::Query, SocketAddrV4::new(group, port), b"group"));
    assert_eq!(receive(&doors.all()[0]), (b"group".to_vec(), SocketAddrV4::new(address, port)));
}

#[test]
fn broadcasts_come_through_a_door_of_their_own() {
    let doors = open(&[DoorSpec { broadcast: true, ..spec(Role::Broadcast) }]);
    let local = doors.local(Role::Broadcast).unwrap();
    let sender = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    sender.bind_device(Some(b"lo")).unwrap();
    sender.set_broadcast(true).unwrap();
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, local.port());
    sender.send_to(b"who boots me", &to.into()).unwrap();
    assert_eq!(receive(&doors.all()[1]).0, b"who boots me");
    assert_eq!(doors.all()[1].bound, to);
    assert_eq!(count(&doors, "udp.broadcast.received"), 1);
}

#[test]
fn a_port_cannot_be_chosen_without_a_host_socket() {
    let spec = DoorSpec { own: false, groups: vec![Ipv4Addr::new(224, 0, 1, 2)], ..spec(Role::Discovery) };
    assert!(Doors::open(&lo(), &[spec], 1).unwrap_err().to_string().contains("discovery needs a port"));
}

#[test]
fn overlong_datagrams_are_counted_and_dropped() {
    let doors = open(&[spec(Role::Query), spec(Role::Control)]);
    let to = doors.local(Role::Query).unwrap();
    assert!(doors.send_to(Role::Control, to, &[1; DATAGRAM_BYTES_MAX + 1]));
    assert!(doors.send_to(Role::Control, to, &[2; 60_000]));
    assert!(doors.send_to(Role::Control, to, &[3; DATAGRAM_BYTES_MAX]));
    let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
    assert_eq!(doors.all()[0].receive(&mut buffer), Received::Dropped);
    assert_eq!(doors.all()[0].receive(&mut buffer), Received::Dropped);
    assert_eq!(receive(&doors.all()[0]).0, [3; DATAGRAM_BYTES_MAX]);
    assert_eq!(count(&doors, "udp.query.oversize"), 2);
    assert_eq!(count(&doors, "udp.query.received"), 1);
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let doors = open(&[spec(Role::Transfer)]);
    let to = doors.local(Role::Transfer).unwrap();
    assert!(!doors.send_to(Role::Transfer, to, &[0; 70_000]));
    assert!(!doors.send_to(Role::Tftp, to, b"no such door"));
    assert_eq!(count(&doors, "udp.transfer.send_failed"), 1);
    assert_eq!(count(&doors, "udp.transfer.sent"), 0);
}

/// G26: `mtftpd` hears queries through such a socket; what overflows it is counted, and little does.
#[test]
fn a_shared_group_socket_has_a_large_buffer_and_its_drops_are_counted() {
    let group = Ipv4Addr::new(239, 255, 255, 17);
    let sender = open(&[spec(Role::Control)]);
    let port = sender.local(Role::Control).unwrap().port();
    let spec = DoorSpec { port, groups: vec![group], own: false, ..spec(Role::Query) };
    let doors = Doors::open(&lo(), &[spec], 1).unwrap();
    let buffer = rustix::net::sockopt::socket_recv_buffer_size(&doors.all()[0].socket).unwrap();
    let forced = rustix::net::sockopt::set_socket_recv_buffer_size_force(&doors.all()[0].socket, 1 << 16);
    // Who may not exceed net.core.rmem_max gets that much, and it is at least the system's default.
    assert!(buffer >= if forced.is_ok() { RECEIVE_BUFFER_BYTES } else { 1 << 16 }, "{buffer}");
    let to = SocketAddrV4::new(group, port);
    (0..8192).for_each(|_| {
        sender.send_to(Role::Control, to, &[0; DATAGRAM_BYTES_MAX]);
    });
    assert!(count(&doors, "udp.query.kernel_dropped") > 0);
}

#[test]
fn an_empty_socket_says_so_and_what_the_kernel_drops_is_counted() {
    let doors = Doors::open(&lo(), &[spec(Role::Query)], 1).unwrap();
    let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
    assert_eq!(doors.all()[0].receive(&mut buffer), Received::Empty);
    assert_eq!(count(&doors, "udp.query.kernel_dropped"), 0);
    let to = doors.local(Role::Query).unwrap();
    // 16 MiB into a buffer of at most 8 (the kernel doubles what it is asked for) that nobody reads.
    (0..8192).for_each(|_| {
        doors.send_to(Role::Query, to, &[0; DATAGRAM_BYTES_MAX]);
    });
    assert!(count(&doors, "udp.query.kernel_dropped") > 0);
}

/// A train is cut apart where the sender says, on every kernel.
#[test]
fn a_train_arrives_as_its_datagrams() {
    let doors = open(&[spec(Role::Transfer), spec(Role::Control)]);
    let to = doors.local(Role::Control).unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(1472 * 3 + 5).collect();
    assert!(doors.send_train(Role::Transfer, to, &bytes, 1472));
    for one in bytes.chunks(1472) {
        assert_eq!(receive(&doors.all()[1]).0, one);
    }
    // One alone, and one that is empty.
    assert!(doors.send_train(Role::Transfer, to, &bytes[..1472], 1472));
    assert!(doors.send_train(Role::Transfer, to, &[], 1472));
    assert_eq!(receive(&doors.all()[1]).0, &bytes[..1472]);
    assert_eq!(receive(&doors.all()[1]).0, b"");
    assert_eq!((count(&doors, "udp.transfer.sent"), count(&doors, "udp.transfer.train_refused")), (6, 0));
}

#[test]
fn of_a_train_that_cannot_be_sent_all_datagrams_count() {
    let doors = open(&[spec(Role::Transfer)]);
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 9);
    assert!(!doors.send_train(Role::Transfer, to, &[7; 250], 100));
    assert_eq!((count(&doors, "udp.transfer.sent"), count(&doors, "udp.transfer.send_failed")), (0, 3));
}

#[test]
fn one_send_carries_so_many() {
    assert_eq!([1, 1023, 1024, 1472, 65_507, 70_000].map(train_len_max), [64, 64, 63, 44, 1, 1]);
}

#[test]
fn a_batch_is_what_waits_in_order_without_what_is_overlong() {
    let doors = open(&[spec(Role::Control), spec(Role::Transfer)]);
    let (from, to) = (doors.local(Role::Transfer).unwrap(), doors.local(Role::Control).unwrap());
    let mut batch = Batch::new();
    assert!(!doors.all()[0].receive_batch(&mut batch), "nothing waits");
    assert_eq!(batch.iter().count(), 0);
    let overlong = [7; DATAGRAM_BYTES_MAX + 1];
    for bytes in [b"one".as_slice(), &overlong, b"", b"four"] {
        assert!(doors.send_to(Role::Transfer, to, bytes));
    }
    assert!(!doors.all()[0].receive_batch(&mut batch));
    let taken: Vec<_> = batch.iter().collect();
    assert_eq!(taken, [(from, b"one".as_slice()), (from, b""), (from, b"four")]);
    assert_eq!((count(&doors, "udp.control.received"), count(&doors, "udp.control.oversize")), (3, 1));
    // More than a batch holds.
    let numbers = || (0..=BATCH_DATAGRAMS_MAX).map(|number| number.to_be_bytes());
    numbers().for_each(|number| assert!(doors.send_to(Role::Transfer, to, &number)));
    assert!(doors.all()[0].receive_batch(&mut batch));
    assert!(batch.iter().map(|(_, bytes)| bytes.to_vec()).eq(numbers().take(BATCH_DATAGRAMS_MAX)));
    assert!(!doors.all()[0].receive_batch(&mut batch));
    assert_eq!(batch.iter().count(), 1);
}

#[test]
fn what_leaves_together_comes_whole_and_in_order_of_each_receiver() {
    let doors =
        open(&[spec(Role::Control), spec(Role::Discovery), spec(Role::Mtftp(1)), spec(Role::Mtftp(2))]);
    let [one, two] = [1, 2].map(|port| doors.local(Role::Mtftp(port)).unwrap());
    let mut outgoing = Outgoing::default();
    // Messages to a server of two lengths, and answers to two clients: several batches of each.
    let message = |number: usize| format!("message {number:03}{}", "+".repeat(number / 70)).into_bytes();
    for number in 0..150 {
        outgoing.put(Transmit { role: Role::Control, to: one, bytes: message(number) });
        let (to, bytes) = (if number % 3 == 0 { one } else { two }, format!("answer {number}").into_bytes());
        outgoing.put(Transmit { role: Role::Discovery, to, bytes });
    }
    outgoing.send(&doors);
    assert_eq!((count(&doors, "udp.control.sent"), count(&doors, "udp.discovery.sent")), (150, 150));
    let answers = |is_mine: fn(usize) -> bool| {
        (0..150).filter(move |number| is_mine(*number)).map(|number| format!("answer {number}").into_bytes())
    };
    let expected: Vec<Vec<u8>> = (0..150).map(message).chain(answers(|number| number % 3 == 0)).collect();
    let heard: Vec<Vec<u8>> = expected.iter().map(|_| receive(&doors.all()[2]).0).collect();
    assert_eq!(heard, expected, "messages are there before the answers that they tell of");
    for answer in answers(|number| number % 3 != 0) {
        assert_eq!(receive(&doors.all()[3]), (answer, doors.local(Role::Discovery).unwrap()));
    }
    // Nothing is left for the next time.
    outgoing.send(&doors);
    assert_eq!(count(&doors, "udp.discovery.sent"), 150);
}

#[test]
fn one_that_cannot_be_sent_is_counted_and_the_others_leave() {
    let doors = open(&[spec(Role::Discovery), spec(Role::Mtftp(1))]);
    let to = doors.local(Role::Mtftp(1)).unwrap();
    // Nobody has this address, and broadcasts are not allowed; at the end, too, and two in a row.
    let nobody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 9);
    let mut outgoing = Outgoing::default();
    for (number, to) in (0..).zip([nobody, to, nobody, nobody, to, to, nobody]) {
        outgoing.put(Transmit { role: Role::Discovery, to, bytes: vec![number] });
    }
    outgoing.send(&doors);
    let heard = [(); 3].map(|()| receive(&doors.all()[1]).0);
    assert_eq!(heard, [[1], [4], [5]]);
    let counts = ["sent", "send_failed"].map(|what| count(&doors, &format!("udp.discovery.{what}")));
    assert_eq!(counts, [3, 4]);
}
