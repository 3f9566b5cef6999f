//! What a restart keeps, and what it must not bring back.

use std::net::Ipv4Addr;
use std::time::Duration;

use binld::engine::claims::StateName;
use driver::Time;
use sim::clock::Clock;
use sim::mtftp_host::MtftpHost;
use sim::scenario::{Scenario, Wants, catalog, host};
use sim::{ClientKind, Fault, LinkFaults, Rules};
use wire::control::Message;

const NOW: Time = Time::ZERO;
const TRUE_CLOCK: Clock = Clock::new(0, 0);
const LONG: u64 = 10_000;

struct Site {
    world: Scenario,
    mtftp: usize,
    binld: usize,
}

/// One boot server, one MTFTP server, one item for iPXE, held.
fn site(seed: u64, clock: Clock) -> Site {
    let mut world = Scenario::new(seed, LinkFaults::NONE, Rules::Ours);
    let mtftp = world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
    let binld = world.binld(host(1), &[Wants::pinned(1, "f", &[host(3)])], clock, NOW);
    world.run_until_state(binld, StateName::Held, LONG);
    // The store may still be writing what followed.
    world.run_ms(1000);
    Site { world, mtftp, binld }
}

impl Site {
    fn now(&self) -> Time {
        self.world.world.now()
    }

    fn happen(&mut self, after_ms: u64, fault: Fault) {
        let at = self.now() + Duration::from_millis(after_ms);
        self.world.world.at(at, fault);
    }

    fn references(&self) -> usize {
        let host = self.world.world.nodes[self.mtftp].program::<MtftpHost>();
        let status = host.and_then(MtftpHost::status).expect("the MTFTP server lives");
        status.claims.iter().map(|claim| claim.references.len()).sum()
    }

    fn ask(&mut self) -> usize {
        let number = u8::try_from(self.world.world.nodes.len()).expect("few hosts");
        let address = Ipv4Addr::new(10, 0, 1, number);
        self.world.client(address, ClientKind::Ipxe, 1, &[host(1)], vec![Time::ZERO])
    }

    fn answer(&self, client: usize) -> String {
        let (_, reply) = self.world.boots(client)[0].answered.clone().expect("an answer");
        reply.uri.expect("a URI")
    }
}

#[test]
fn a_short_absence_keeps_the_claim_and_its_stamp() {
    let mut site = site(1, TRUE_CLOCK);
    let before = site.world.claim(site.binld);
    site.happen(0, Fault::Crash(site.binld));
    site.happen(60_000, Fault::Start(site.binld));
    site.world.run_ms(60_001);
    let client = site.ask();
    site.world.run_ms(3000);
    let after = site.world.claim(site.binld);
    assert_eq!((after.state, after.group, after.stamp), (StateName::Held, before.group, before.stamp));
    // A client turns the clean round after the restart into a foreground one.
    assert_eq!(site.answer(client), "mtftp://10.0.0.3:1759/f");
    assert_eq!(site.references(), 1);
}

#[test]
fn a_long_absence_clears_anew_and_commits_with_a_new_stamp() {
    let mut site = site(1, TRUE_CLOCK);
    let before = site.world.claim(site.binld);
    site.happen(0, Fault::Crash(site.binld));
    site.happen(400_000, Fault::Start(site.binld));
    site.world.run_ms(401_000);
    let clearing = site.world.claim(site.binld);
    assert_eq!((clearing.state, clearing.stamp), (StateName::Clearing, None));
    site.world.run_until_state(site.binld, StateName::Held, LONG);
    let after = site.world.claim(site.binld);
    assert_eq!(after.group, before.group);
    assert!(after.stamp > before.stamp);
}

#[test]
fn neither_a_fast_clock_nor_a_step_of_the_wall_clock_matters_to_a_held_claim() {
    for by_ms in [-86_400_000, 86_400_000] {
        let mut site = site(1, Clock::new(300, -45_000));
        let before = site.world.claim(site.binld);
        site.happen(10, Fault::WallStep(site.binld, by_ms));
        site.world.run_ms(200_000);
        let after = site.world.claim(site.binld);
        assert_eq!((after.state, after.stamp), (StateName::Held, before.stamp), "{by_ms}");
    }
}

#[test]
fn an_mtftp_server_keeps_its_references_over_a_crash() {
    let mut site = site(1, TRUE_CLOCK);
    assert_eq!(site.references(), 1);
    site.happen(0, Fault::Crash(site.mtftp));
    site.happen(1000, Fault::Start(site.mtftp));
    site.world.run_ms(1010);
    // Before the boot server renews, and though it is the only one that could say so.
    assert_eq!(site.references(), 1);
    let client = site.ask();
    site.world.run_ms(100);
    assert_eq!(site.answer(client), "mtftp://10.0.0.3:1759/f");
}

#[test]
fn a_crash_between_commit_and_record_promises_nothing() {
    let mut world = Scenario::new(1, LinkFaults::NONE, Rules::Ours);
    world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
    let binld = world.binld(host(1), &[Wants::pinned(1, "f", &[host(3)])], TRUE_CLOCK, NOW);
    world.drop_if(|_, passing| {
        if let Some(Message::Configure(configure)) = passing.control().map(|envelope| envelope.message) {
            assert_eq!(configure.group(), None, "nobody hears of a claim that is not on disk");
        }
        false
    });
    // Every write fails: it commits again and again, and nothing follows.
    world.world.at(NOW, Fault::StoreFails(1_000_000));
    world.run_until_state(binld, StateName::Recording, LONG);
    world.run_ms(LONG);
    world.world.at(world.world.now(), Fault::Crash(binld));
    world.world.at(world.world.now() + Duration::from_millis(1), Fault::Start(binld));
    world.run_ms(5);
    let claims = world.status(binld).claims;
    assert!(claims.iter().all(|claim| claim.stamp.is_none()), "{claims:#?}");
}

#[test]
fn an_item_that_leaves_and_comes_back_keeps_its_reference_though_deletes_go_unanswered() {
    let mut site = site(1, TRUE_CLOCK);
    let wants = Wants::pinned(1, "f", &[host(3)]);
    // The delete reaches the server never; the boot server will try again every 10 s.
    let until = site.now() + Duration::from_secs(5);
    site.world.drop_if(move |now, passing| {
        let delete = passing.control().is_some_and(|envelope| matches!(envelope.message, Message::Delete(_)));
        delete && now < until
    });
    site.happen(0, Fault::Reload(site.binld, catalog(&[])));
    site.happen(4000, Fault::Reload(site.binld, catalog(&[wants])));
    site.world.run_ms(5000);
    site.world.run_until_state(site.binld, StateName::Held, LONG);
    for _ in 0..6 {
        site.world.run_ms(5000);
        let client = site.ask();
        site.world.run_ms(50);
        assert_eq!((site.answer(client).as_str(), site.references()), ("mtftp://10.0.0.3:1759/f", 1));
    }
}

#[test]
fn a_crash_while_the_reference_is_deleted_does_not_leave_it_behind() {
    let mut site = site(1, TRUE_CLOCK);
    site.world.drop_if(|_, passing| {
        passing.control().is_some_and(|envelope| matches!(envelope.message, Message::Delete(_)))
    });
    site.happen(0, Fault::Reload(site.binld, catalog(&[])));
    site.happen(5000, Fault::Crash(site.binld));
    site.happen(6000, Fault::Start(site.binld));
    site.world.run_ms(7000);
    site.world.world.drop_nothing();
    site.world.run_ms(300_000);
    assert_eq!(site.references(), 0);
}
