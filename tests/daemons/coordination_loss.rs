//! Boot servers that start at the same instant and want the same addresses, on links that lose datagrams, fall apart and
//! come together again; some are killed meanwhile. Judged by what was on the wire alone (`sim::wire_check`).
#![allow(clippy::print_stdout, reason = "what loss did is counted and shown, not asserted")]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use sim::boot_net::{claim, held, pattern};
use sim::capture::Capture;
use sim::daemon::{Daemon, Kind};
use sim::lab::{Host, Lab, eventually};
use sim::pxe_client::{DISCOVERY_PORT, Firmware, Form, Machine, receive};
use sim::wire_check::{Rule, Verdict, judge};

/// Files that every site wants an address of its own for.
const FILES: usize = 4;
/// Server types: of the pinned item, and of the first of the others.
const PINNED_TYPE: u16 = 0x8001;
const FIRST_TYPE: u16 = 0x9000;
/// What is lossy: queries, and both control ports.
const PORTS: [u16; 3] = [4015, 4016, 4017];

/// A boot server and a file server on one host, and a machine that asks it.
struct Site {
    host: Host,
    binld: Daemon,
    mtftpd: Daemon,
    machine: (Host, UdpSocket, UdpSocket),
}

struct Net {
    sites: Vec<Site>,
    capture: Capture,
    _lab: Lab,
}

fn number(index: usize) -> u8 {
    u8::try_from(index).unwrap()
}

/// The pinned item of each site is for a file of its own; the others are the same everywhere, in another order on each,
/// and the pool is so small that their candidates meet.
fn config(index: usize, count: usize) -> String {
    let mut text = "[pool]\nfirst = \"239.255.7.1\"\nlast = \"239.255.7.40\"\n".to_owned();
    for step in 0..count {
        let _ = writeln!(text, "[[mtftp]]\naddress = \"10.77.0.{}\"", 31 + (index + step) % count);
    }
    let _ = writeln!(
        text,
        "[[item]]\nname = \"pinned\"\ntype = {PINNED_TYPE}\n[[item.boot]]\nprofile = \"ipxe\"\narch = [0]\n\
         file = \"boot.ipxe\"\nmulticast = \"pinned{index}.img\"\npinned = true\n\
         servers = [\"10.77.0.{}\"]",
        31 + index,
    );
    for step in 0..FILES {
        let file = (index + step) % FILES;
        let _ = writeln!(
            text,
            "[[item]]\nname = \"rom{file}\"\ntype = {}\n[[item.boot]]\nprofile = \"pxe-rom\"\narch = [0]\n\
             file = \"rom{file}.img\"\nmulticast = \"rom{file}.img\"\nservers = [\"10.77.0.{}\"]",
            usize::from(FIRST_TYPE) + file,
            31 + index,
        );
    }
    text
}

impl Net {
    /// All file servers run; then all boot servers start at once.
    fn new(count: usize, loss_percent: u8) -> Self {
        let mut lab = Lab::new();
        lab.boot_file("boot.ipxe", b"#!ipxe\n");
        for index in 0..count {
            lab.boot_file(&format!("pinned{index}.img"), &pattern(3000 + index));
        }
        for file in 0..FILES {
            lab.boot_file(&format!("rom{file}.img"), &pattern(2000 + file));
        }
        let hosts: Vec<Host> =
            (0..count).map(|index| lab.host(&format!("site{index}"), 31 + number(index))).collect();
        let capture = lab.capture(&hosts);
        let mut sites: Vec<Site> = (0..count)
            .zip(hosts)
            .map(|(index, host)| {
                let machine = lab.host(&format!("machine{index}"), 101 + number(index));
                let sockets = (machine.bind(68), machine.bind(DISCOVERY_PORT));
                let mtftpd =
                    Daemon::new(&lab, &host, Kind::Mtftpd, &format!("mtftpd{index}"), "grace_s = 1\n");
                let binld =
                    Daemon::new(&lab, &host, Kind::Binld, &format!("binld{index}"), &config(index, count));
                if loss_percent > 0 {
                    PORTS.iter().for_each(|port| host.lose_percent(loss_percent, *port));
                }
                Site { host, binld, mtftpd, machine: (machine, sockets.0, sockets.1) }
            })
            .collect();
        sites.iter_mut().for_each(|site| site.mtftpd.spawn());
        for site in &sites {
            eventually("a file server that answers", || {
                site.mtftpd.ask(&["status", "--json"]).status.success().then_some(())
            });
        }
        sites.iter_mut().for_each(|site| site.binld.spawn());
        let net = Self { sites, capture, _lab: lab };
        net.until_up();
        net
    }

    fn until_up(&self) {
        for site in &self.sites {
            for daemon in [&site.binld, &site.mtftpd] {
                eventually("a daemon that answers", || {
                    daemon.ask(&["status", "--json"]).status.success().then_some(())
                });
            }
        }
    }

    /// Every machine asks every boot server for every item, once.
    fn ask_all(&self) {
        for asking in &self.sites {
            let (machine, ipxe, rom) = &asking.machine;
            for asked in &self.sites {
                let server = SocketAddrV4::new(asked.host.address(), DISCOVERY_PORT);
                let one = Machine::new(Firmware::Ipxe, machine.address());
                ipxe.send_to(&one.question(Form::Request, PINNED_TYPE, 0), server).unwrap();
                let one = Machine::new(Firmware::Rom, machine.address());
                for file in 0..FILES {
                    let item = FIRST_TYPE + u16::from(number(file));
                    rom.send_to(&one.question(Form::Request, item, 0), server).unwrap();
                }
            }
        }
        // The answers are in the capture; sockets must not fill up.
        for site in &self.sites {
            for socket in [&site.machine.1, &site.machine.2] {
                while receive(socket, Duration::from_millis(1)).is_some() {}
            }
        }
    }

    /// Machines ask until every boot server holds an address for each of its files, and one of them the pinned one, which
    /// every other one has asked for; and every answer that can be given has been.
    #[track_caller]
    fn until_settled(&self) {
        eventually("every file has its address", || {
            self.ask_all();
            let all = self
                .sites
                .iter()
                .all(|site| (0..FILES).all(|file| held(&site.binld, &format!("rom{file}.img")).is_some()));
            (all && self.pinned_holders().len() == 1).then_some(())
        });
        self.ask_all();
    }

    /// The sites that hold the pinned tuple.
    fn pinned_holders(&self) -> Vec<usize> {
        let holds = |index: &usize| held(&self.sites[*index].binld, &format!("pinned{index}.img")).is_some();
        (0..self.sites.len()).filter(holds).collect()
    }

    /// Kills what a site has, starts it again, and goes on when all is as before.
    fn kill_some(&mut self) {
        let holder = self.pinned_holders()[0];
        let other = (holder + 1) % self.sites.len();
        self.sites[holder].binld.kill();
        self.sites[other].mtftpd.kill();
        self.ask_all();
        self.sites[holder].binld.spawn();
        self.sites[other].mtftpd.spawn();
        self.until_up();
        self.until_settled();
    }

    /// What the wire says, once the last answers were seen.
    fn verdict(&self, what: &str) -> Verdict {
        let verdict = judge(&self.capture.packets());
        println!(
            "{what}: {} answers, {} of them multicast, {} queries, {} echoes; broken: one content {}, configured {}, \
             cleared {}",
            verdict.answers,
            verdict.multicast,
            verdict.queries,
            verdict.echoes,
            verdict.count(Rule::OneContent),
            verdict.count(Rule::Configured),
            verdict.count(Rule::Cleared),
        );
        assert!(verdict.multicast >= self.sites.len() * FILES, "clients were told addresses");
        verdict
    }
}

/// Nothing is wrong; a few of the findings are enough to say what is.
fn assert_right(verdict: &Verdict) {
    assert!(verdict.findings.is_empty(), "{:#?}", verdict.findings.iter().take(4).collect::<Vec<_>>());
}

/// Whatever is lost: no answer before its address was asked for and acknowledged.
fn assert_no_wrong_turn(verdict: &Verdict) {
    let wrong: Vec<_> = verdict.findings.iter().filter(|finding| finding.rule != Rule::OneContent).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn two_at_once_and_one_datagram_of_a_hundred_lost() {
    let mut net = Net::new(2, 1);
    net.until_settled();
    net.kill_some();
    assert_right(&net.verdict("two, 1 %"));
}

#[test]
fn five_at_once() {
    let mut net = Net::new(5, 0);
    net.until_settled();
    net.kill_some();
    let verdict = net.verdict("five, 0 %");
    assert_right(&verdict);
    let contested = |site: &Site| site.binld.status()["counters"]["clearing.contested"].as_u64().unwrap_or(0);
    let contested: u64 = net.sites.iter().map(contested).sum();
    assert!(contested > 0, "nobody had to yield: this test tests nothing");
}

#[test]
fn five_at_once_and_one_datagram_of_a_hundred_lost() {
    let net = Net::new(5, 1);
    net.until_settled();
    assert_right(&net.verdict("five, 1 %"));
}

#[test]
fn five_at_once_and_a_tenth_lost() {
    let mut net = Net::new(5, 10);
    net.until_settled();
    net.kill_some();
    assert_no_wrong_turn(&net.verdict("five, 10 %"));
}

#[test]
fn five_at_once_and_a_third_lost() {
    let net = Net::new(5, 30);
    // At this loss two may come to hold the pinned tuple: then there is no settling as above.
    eventually("every file has its address", || {
        net.ask_all();
        net.sites
            .iter()
            .all(|site| (0..FILES).all(|file| held(&site.binld, &format!("rom{file}.img")).is_some()))
            .then_some(())
    });
    net.ask_all();
    assert_no_wrong_turn(&net.verdict("five, 30 %"));
}

/// Each half goes on; what was told before stays right; what the halves did to each other is counted.
#[test]
fn a_network_that_falls_apart_and_comes_together() {
    let mut net = Net::new(5, 0);
    net.until_settled();
    assert_right(&net.verdict("before the partition"));
    let holder = net.pinned_holders()[0];
    let halves: (Vec<usize>, Vec<usize>) = (0..5).partition(|index| (index + 5 - holder) % 5 < 2);
    let addresses = |half: &[usize]| -> Vec<Ipv4Addr> {
        half.iter().map(|index| net.sites[*index].host.address()).collect()
    };
    for (half, others) in [(&halves.0, &halves.1), (&halves.1, &halves.0)] {
        half.iter().for_each(|index| net.sites[*index].host.cut_off(&addresses(others)));
    }
    // The half without the pinned tuple asks for it and nobody who has it can object; but all know who has it (G5).
    let lonely = &halves.1;
    let pinned = |index: usize| claim(&net.sites[index].binld, &format!("pinned{index}.img"));
    eventually("somebody of the other half was refused the pinned tuple twice", || {
        net.ask_all();
        let refusals = |index: &usize| pinned(*index)?["refusals"].as_u64();
        lonely.iter().any(|index| refusals(index).is_some_and(|count| count >= 2)).then_some(())
    });
    assert!(
        lonely.iter().all(|index| held(&net.sites[*index].binld, &format!("pinned{index}.img")).is_none())
    );
    net.ask_all();
    let (first, last) = (halves.0[0], halves.1[0]);
    net.sites[first].mtftpd.kill();
    net.sites[last].binld.kill();
    net.ask_all();
    net.sites.iter().for_each(|site| site.host.heal());
    net.sites[first].mtftpd.spawn();
    net.sites[last].binld.spawn();
    net.until_up();
    eventually("every file has its address", || {
        net.ask_all();
        net.sites
            .iter()
            .all(|site| (0..FILES).all(|file| held(&site.binld, &format!("rom{file}.img")).is_some()))
            .then_some(())
    });
    let verdict = net.verdict("healed");
    assert_no_wrong_turn(&verdict);
    // Nothing was told twice, not even the tuple that both halves needed.
    assert!(verdict.findings.is_empty(), "{:#?}", verdict.findings.iter().take(4).collect::<Vec<_>>());
    assert!(claim(&net.sites[holder].binld, &format!("pinned{holder}.img")).is_some());
}
