//! The lab itself: what the other tests stand on.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sim::lab::Lab;
use sim::pxe_client::receive;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 7, 7);
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn hosts_hear_each_other_by_unicast_multicast_and_broadcast() {
    let mut lab = Lab::new();
    let (one, two) = (lab.host("one", 1), lab.host("two", 2));
    let (here, there) = (one.bind(5000), two.bind(5000));
    let group = two.join(GROUP, 5001);

    here.send_to(b"unicast", SocketAddrV4::new(two.address(), 5000)).unwrap();
    let from = SocketAddrV4::new(one.address(), 5000);
    assert_eq!(receive(&there, PATIENCE), Some((b"unicast".to_vec(), from)));
    here.send_to(b"multicast", SocketAddrV4::new(GROUP, 5001)).unwrap();
    assert_eq!(receive(&group, PATIENCE), Some((b"multicast".to_vec(), from)));

    let everybody = two.bind_at(Ipv4Addr::UNSPECIFIED, 5002);
    here.send_to(b"broadcast", SocketAddrV4::new(Ipv4Addr::BROADCAST, 5002)).unwrap();
    assert_eq!(receive(&everybody, PATIENCE), Some((b"broadcast".to_vec(), from)));
}

#[test]
fn a_lab_is_not_on_the_network_of_the_machine() {
    let mut lab = Lab::new();
    let host = lab.host("one", 1);
    let seen = host.run(Path::new("ip"), &["-brief", "link"]);
    let names: Vec<String> = String::from_utf8(seen.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split(['@', ' ']).next().map(str::to_owned))
        .collect();
    assert_eq!(names, ["lo", "eth0"]);
}

#[test]
fn some_datagrams_are_lost_where_that_is_asked_for() {
    let mut lab = Lab::new();
    let (one, two) = (lab.host("one", 1), lab.host("two", 2));
    two.lose_percent(50, 5000);
    let (here, lossy, sound) = (one.bind(0), two.bind(5000), two.bind(5001));
    for _ in 0..1000 {
        here.send_to(b"x", SocketAddrV4::new(two.address(), 5000)).unwrap();
    }
    // What is sent later arrives later: then all the others have arrived, or never will.
    here.send_to(b"end", SocketAddrV4::new(two.address(), 5001)).unwrap();
    assert!(receive(&sound, PATIENCE).is_some());
    lossy.set_nonblocking(true).unwrap();
    let mut buffer = [0; 8];
    let mut count = 0;
    while lossy.recv_from(&mut buffer).is_ok() {
        count += 1;
    }
    // Twelve standard deviations to each side.
    assert!((300..700).contains(&count), "{count} of 1000");
}

#[test]
fn nothing_is_left_when_a_test_fails() {
    let (send, made) = std::sync::mpsc::channel();
    let outcome = std::panic::catch_unwind(move || {
        let mut lab = Lab::new();
        let _host = lab.host("one", 1);
        send.send((namespaces(), lab.folder().to_owned())).unwrap();
        panic!("a test that fails");
    });
    assert!(outcome.is_err());
    let (during, folder) = made.recv().unwrap();
    // Labs of tests that run beside this one may come and go; ours have this process's number.
    assert_eq!(during.len(), 2, "{during:?}");
    assert_eq!(namespaces(), Vec::<String>::new());
    assert!(!folder.exists());
}

#[test]
fn remains_of_a_killed_test_are_removed() {
    // Its process lives until it is complete: a test beside this one that removes remains would break `ip` off.
    let mut process = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let name = format!("pxl-{}-0-bridge", process.id());
    let made = Command::new("ip").args(["netns", "add", &name]).status();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(made.unwrap().success());
    let _lab = Lab::new();
    assert!(!Path::new("/run/netns").join(name).exists());
}

fn namespaces() -> Vec<String> {
    let ours = format!("pxl-{}-", std::process::id());
    let names = fs::read_dir("/run/netns").unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&ours)).collect()
}
