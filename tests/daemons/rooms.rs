//! A room of machines on one transfer of RFC 2090: when it begins, and what becomes of a slow one.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sim::boot_net::{Place, ROOM_ITEM, boot_files, counter, pattern, start_binld, start_mtftpd, until_held};
use sim::daemon::{Daemon, program};
use sim::lab::{Host, Lab, eventually};

const FILE: &str = "rom.img";

struct Room {
    lab: Lab,
    mtftpd: Daemon,
    _binld: Daemon,
    place: Place,
    file: Vec<u8>,
    machines: Vec<Host>,
}

impl Room {
    fn new(machines: u8, len: usize, transfer: &str) -> Self {
        let mut lab = Lab::new();
        boot_files(&lab);
        let file = pattern(len);
        lab.boot_file(FILE, &file);
        let mtftpd = start_mtftpd(&mut lab);
        let binld = start_binld(&mut lab, 1, &format!("{ROOM_ITEM}{transfer}\n"));
        let place = until_held(&binld, FILE);
        let machines = (0..machines).map(|n| lab.host(&format!("machine{n}"), 101 + n)).collect();
        Self { lab, mtftpd, _binld: binld, place, file, machines }
    }

    fn get(&self, machine: usize) -> Child {
        let mut command = self.machines[machine].command(&program("mtftp-get"));
        command.current_dir(self.lab.folder()).args(["--server", "10.77.0.21", "--json", "--quiet"]);
        command.args(["-o", &machine.to_string(), "--no-fall-back", FILE]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The machines of the transfer, one after the other, so that the first is the oldest.
    fn gather(&self) -> Vec<Child> {
        let gather = |machine| {
            let child = self.get(machine);
            eventually("it is listed", || (self.listed() == machine + 1).then_some(()));
            child
        };
        (0..self.machines.len()).map(gather).collect()
    }

    fn session(&self) -> Option<Value> {
        let status = self.mtftpd.status();
        let claim = status["claims"].as_array()?.iter().find(|claim| claim["file"] == FILE)?;
        claim["sessions"].as_array()?.first().cloned()
    }

    fn listed(&self) -> usize {
        self.session().and_then(|session| Some(session["waiting"].as_array()?.len())).unwrap_or(0)
    }

    fn start(&self) -> Output {
        self.mtftpd.ask(&["start", &self.place.group.to_string()])
    }

    #[track_caller]
    fn has_it(&self, machine: usize, child: Child) {
        let output = child.wait_with_output().unwrap();
        let told = [output.stdout.as_slice(), &output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert_eq!(output.status.code(), Some(0), "machine {machine}: {told}\n{}", self.mtftpd.log());
        let path: &Path = self.lab.folder();
        assert!(std::fs::read(path.join(machine.to_string())).unwrap() == self.file, "machine {machine}");
    }
}

#[test]
fn a_transfer_waits_for_its_clients_or_for_an_operator() {
    let room = Room::new(2, 1_000_000, "start_clients = 9\nstart_within_s = 3600");
    let nothing = room.start();
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("nothing waits"), "{nothing:?}");
    let running = room.gather();
    let session = room.session().unwrap();
    assert_eq!((&session["multicast"], &session["awaits"]), (&0.into(), &9.into()), "{session}");
    let started = room.start();
    assert_eq!(started.status.code(), Some(0), "{started:?}");
    assert!(String::from_utf8_lossy(&started.stdout).contains("for 2 clients"), "{started:?}");
    for (machine, child) in running.into_iter().enumerate() {
        room.has_it(machine, child);
    }
    let other = room.mtftpd.ask(&["start", "239.255.9.9"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&other.stderr).contains(&room.place.group.to_string()), "{other:?}");
    // The number of clients begins it as well; without anybody's word.
    let room = Room::new(2, 1_000_000, "start_clients = 2\nstart_within_s = 3600");
    let running = [room.get(0), room.get(1)];
    for (machine, child) in running.into_iter().enumerate() {
        room.has_it(machine, child);
    }
    assert_eq!(counter(&room.mtftpd, "session.began"), 1);
}

/// The master is stopped, as a machine is that swaps. The others have the file before it goes on, and it gets the rest.
#[test]
fn a_machine_that_stands_still_is_left_behind_and_has_the_file_in_the_end() {
    for slow in ["drop-to-unicast", "second-stream"] {
        let transfer =
            format!("slow = \"{slow}\"\nslow_silences = 1\nstart_clients = 4\nstart_within_s = 3600");
        let room = Room::new(3, 40_000_000, &transfer);
        let mut running = room.gather();
        let first = running.remove(0);
        let pid = Pid::from_child(&first);
        assert_eq!(room.start().status.code(), Some(0));
        eventually("the first sets the pace", || (room.session()?["block"].as_u64()? > 100).then_some(()));
        kill_process(pid, Signal::STOP).unwrap();
        for (machine, child) in (1..).zip(running) {
            room.has_it(machine, child);
        }
        kill_process(pid, Signal::CONT).unwrap();
        room.has_it(0, first);
        eventually("the transfer ends", || room.session().is_none().then_some(()));
        assert!(counter(&room.mtftpd, "session.slow_client") > 0, "{slow}: {}", room.mtftpd.log());
        assert!(room.mtftpd.log().contains("others waited for this client"), "{}", room.mtftpd.log());
    }
}

/// An operator's typing.
#[test]
fn start_wants_an_address() {
    let output = Command::new(program("mtftpd")).args(["start", "10.0.0.1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("10.0.0.1"), "{output:?}");
}
