//! How long the next answer takes when the boot server dies that answers; part of `tests/bench`. Simulated, the same on
//! every machine; and with real daemons that are killed, in network namespaces.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sim::boot_net::{PINNED_ITEM, TYPE, boot_files, is_shared_out, start_binld, start_mtftpd, until_held};
use sim::daemon::Daemon;
use sim::failover::{Site, deaths};
use sim::lab::{Lab, eventually};
use sim::link::LinkFaults;
use sim::pxe_client::{Firmware, Form, Machine, ask};
use wire::control::Message;

use crate::line;

/// Real daemons killed, unless the command line says otherwise.
pub(crate) const KILLS: u32 = 100;
/// Simulated ones.
pub(crate) const SIMULATED: u32 = 10_000;
/// Deaths of one simulated site.
const DEATHS: u32 = 50;
/// Real boot servers.
const BINLDS: u8 = 3;
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 1, 2), 4011);

/// Prints them.
pub(crate) fn print(kills: u32, simulated: u32) {
    println!("one boot server dies, another answers");
    in_simulation(simulated);
    inquiries();
    if kills > 0 {
        for_real(kills);
    }
}

fn show(what: &str, mut spans: Vec<Duration>, unanswered: usize) {
    spans.sort_unstable();
    let millis = |percent: usize| {
        let at = (spans.len() * percent / 100).min(spans.len().saturating_sub(1));
        spans.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    let measured = format!(
        "p50 {:.0}, p99 {:.0}, max {:.0} ms; {unanswered} never",
        millis(50),
        millis(99),
        millis(100)
    );
    line(
        &format!("next answer after {what}, {} deaths", spans.len() + unanswered),
        &measured,
        "p99 ≤ 1500 ms, 0 never",
    );
}

fn in_simulation(count: u32) {
    let sites = u64::from(count.div_ceil(DEATHS));
    let next = AtomicU64::new(0);
    let work = || {
        let mut spans = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= sites {
                return spans;
            }
            spans.extend(deaths(seed, DEATHS).expect("no rule is broken"));
        }
    };
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let spans: Vec<Option<Duration>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a site is played")).collect()
    });
    let unanswered = spans.iter().filter(|span| span.is_none()).count();
    show("a crash, simulated, 2 to 8 boot servers", spans.into_iter().flatten().collect(), unanswered);
}

/// UDP payload of the inquiries that a boot server of eight sends while nothing happens; a multicast one counts once.
fn inquiries() {
    const SERVERS: u8 = 8;
    const SPAN: Duration = Duration::from_secs(60);
    let mut site = Site::new(0, SERVERS, LinkFaults::NONE).expect("no rule is broken");
    let sent: Rc<RefCell<BTreeMap<usize, usize>>> = Rc::default();
    let (count, binlds) = (Rc::clone(&sent), site.binlds.clone());
    site.scenario.world.drop_if(move |_, passing| {
        let is_inquiry = || matches!(passing.control().map(|it| it.message), Some(Message::Inquiry(_)));
        // Of the copies of a multicast that which the first other one gets.
        let first = binlds.iter().find(|binld| **binld != passing.from);
        if (!passing.destination.ip().is_multicast() || first == Some(&passing.to)) && is_inquiry() {
            *count.borrow_mut().entry(passing.from).or_default() += passing.bytes.len();
        }
        false
    });
    site.scenario.world.run_for(SPAN).expect("no rule is broken");
    let most = sent.borrow().values().max().copied().unwrap_or(0) as f64 / SPAN.as_secs_f64();
    line("inquiries of a boot server of 8, the busiest", &format!("{most:.0} B/s"), "≤ 1000 B/s");
}

fn for_real(kills: u32) {
    let mut lab = Lab::new();
    boot_files(&lab);
    let _mtftpd = start_mtftpd(&mut lab);
    let mut binlds: Vec<Daemon> =
        (1..=BINLDS).map(|number| start_binld(&mut lab, number, PINNED_ITEM)).collect();
    for binld in &binlds {
        until_held(binld, "initrd.img");
    }
    let host = lab.host("machine", 101);
    let (mut spans, mut unanswered) = (Vec::new(), 0);
    for kill in 0..kills {
        for binld in &binlds {
            eventually("all boot servers work, and every share is answered", || {
                is_shared_out(binld, binlds.len()).then_some(())
            });
            until_held(binld, "initrd.img");
        }
        // A socket of its own: nothing is left in it of the last time.
        let socket = host.bind(Firmware::Ipxe.source_port());
        let number = u8::try_from(kill % 250).unwrap_or(0) + 1;
        let machine = Machine { number, ..Machine::new(Firmware::Ipxe, host.address()) };
        let question = machine.question(Form::Request, TYPE, 0);
        let Some(before) = ask(&socket, GROUP, &question) else {
            unanswered += 1;
            continue;
        };
        let Some(responder) = binlds.iter_mut().find(|binld| binld.host().address() == *before.from.ip())
        else {
            continue;
        };
        responder.kill();
        let began_at = Instant::now();
        match ask(&socket, GROUP, &question) {
            Some(answer) => {
                spans.push(began_at.elapsed());
                assert_eq!(answer.uri(), before.uri(), "two answers differ");
            }
            None => unanswered += 1,
        }
        responder.start();
    }
    show("kill -9, 3 real boot servers", spans, unanswered);
}
