//! Who cleans up behind a dead boot server.

use std::cell::RefCell;
use std::rc::Rc;

use driver::{Role, Transmit};
use mtftp::engine::{ReferencePolicy, ReferenceStatus};
use sim::binld_host::BinldHost;
use sim::mtftp_host::MtftpHost;
use wire::ServerId;

use super::*;

const SECOND: u64 = 1000;
/// Stale after 300 s, and twice a look after that; the last renewal was up to 45 s before.
const ALL_OVER: u64 = 340 * SECOND;

/// The MTFTP server at host 3, and boot servers that all rely on its file on the only address.
struct Site {
    world: Scenario,
    mtftp: usize,
    binlds: Vec<usize>,
}

impl Site {
    fn new(references: ReferencePolicy, binlds: &[u8]) -> Self {
        let mut world = quiet(1);
        world.references = references;
        let mtftp = world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
        let binlds: Vec<usize> = binlds
            .iter()
            .map(|number| world.binld(host(*number), &[dynamic(*number, host(3))], TRUE_CLOCK, NOW))
            .collect();
        for binld in &binlds {
            world.run_until_state(*binld, StateName::Held, 2 * LONG);
        }
        Self { world, mtftp, binlds }
    }

    fn happen(&mut self, fault: Fault) {
        self.world.world.at(self.world.world.now(), fault);
        self.world.run_ms(1);
    }

    fn id(&self, binld: usize) -> ServerId {
        self.world.world.nodes[binld].program::<BinldHost>().map(BinldHost::server).expect("a boot server")
    }

    fn mtftp(&self) -> &MtftpHost {
        self.world.world.nodes[self.mtftp].program().expect("an MTFTP server")
    }

    fn references(&self) -> Vec<ReferenceStatus> {
        let status = self.mtftp().status().expect("it lives");
        status.claims.into_iter().flat_map(|claim| claim.references).collect()
    }

    fn relies(&self, binld: usize) -> bool {
        let stored = self.mtftp().has_reference(group(1), self.id(binld), &sim::scenario::name("f"));
        let listed = self.references().iter().any(|reference| reference.binld == self.id(binld));
        assert_eq!(stored, listed);
        listed
    }

    fn refused(&self, why: &'static str) -> u64 {
        self.mtftp().engine().map_or(0, |engine| engine.counters().get("drop_behalf", why))
    }

    fn asked(&self) -> Vec<u64> {
        self.binlds.iter().map(|binld| self.world.counter(*binld, "behalf.asked")).collect()
    }

    /// Nothing goes between that host and all others.
    fn cut_off(&mut self, node: usize) {
        for other in (0..self.world.world.nodes.len()).filter(|other| *other != node) {
            self.happen(Fault::Cut(node, other));
            self.happen(Fault::Cut(other, node));
        }
    }
}

#[test]
fn g12_a_dead_binlds_reference_is_deleted_by_one_survivor() {
    let mut site = Site::new(ReferencePolicy::Lease, &[1, 2, 4, 5]);
    let dead = site.binlds[0];
    assert_eq!(site.references().len(), 4);
    site.happen(Fault::Crash(dead));
    site.world.run_ms(254 * SECOND);
    assert!(site.relies(dead) && site.asked() == [0; 4], "not before it is stale");
    site.world.run_ms(ALL_OVER - 254 * SECOND);
    assert!(!site.relies(dead));
    assert_eq!(site.references().len(), 3, "those of the living stay");
    assert_eq!(site.asked().iter().sum::<u64>(), 1, "by one, once: {:?}", site.asked());
    // The address is freed with the last one that relies on it, and with no other.
    let survivor = site.binlds[1];
    for other in [2, 3] {
        site.happen(Fault::Crash(site.binlds[other]));
    }
    site.world.run_ms(ALL_OVER);
    assert_eq!(site.references().len(), 1);
    assert!(site.relies(survivor), "who hears no BINLD any more but the MTFTP server cleans up, too");
    assert_eq!(site.mtftp().status().map(|status| status.rests.len()), Some(0));
    // Who comes back has its reference back.
    site.happen(Fault::Start(dead));
    site.world.run_ms(30 * SECOND);
    assert!(site.relies(dead));
}

/// When nobody else relies on the address, it is free again: after its rest, others may have it.
#[test]
fn g12_the_address_of_a_dead_binld_is_free_again() {
    let mut site = Site::new(ReferencePolicy::Lease, &[1]);
    let rival = site.world.binld(host(2), &[dynamic(2, host(4))], TRUE_CLOCK, site.world.world.now());
    site.world.mtftp(host(4), &["f"], TRUE_CLOCK, NOW);
    site.happen(Fault::Crash(site.binlds[0]));
    site.world.run_ms(ALL_OVER);
    assert_eq!((site.references().len(), site.world.claim(rival).state), (0, StateName::Waiting));
    site.world.run_ms(250 * SECOND);
    assert_eq!(site.world.claim(rival).state, StateName::Waiting, "it rests");
    site.world.run_until_state(rival, StateName::Held, 400 * SECOND);
}

/// The request was on its way for long: what it is about was renewed meanwhile.
#[test]
fn g12_a_reference_renewed_meanwhile_is_not_deleted() {
    let mut site = Site::new(ReferencePolicy::Lease, &[1, 2]);
    let [late, survivor] = [site.binlds[0], site.binlds[1]];
    site.cut_off(late);
    let delayed = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&delayed);
    site.world.drop_if(move |_, passing| {
        let is_it = passing.control().is_some_and(|it| matches!(it.message, Message::DeleteForDead(_)));
        if is_it {
            let transmit =
                Transmit { role: Role::Control, to: passing.destination, bytes: passing.bytes.to_vec() };
            kept.borrow_mut().get_or_insert(transmit);
        }
        is_it
    });
    site.world.run_ms(ALL_OVER);
    assert!(site.relies(late), "the request has not come");
    let transmit = delayed.borrow().clone().expect("a request");
    site.world.world.drop_nothing();
    site.happen(Fault::Heal);
    site.world.run_ms(60 * SECOND);
    assert!(site.references().iter().all(|reference| !reference.stale));
    site.world.world.say(survivor, &transmit);
    site.world.run_ms(SECOND);
    assert!(site.relies(late));
    assert_eq!(site.refused("living"), 1);
    // Now it is dead indeed; but this is not the reference that was meant.
    site.happen(Fault::Crash(late));
    site.world.run_ms(70 * SECOND);
    site.world.world.say(survivor, &transmit);
    site.world.run_ms(SECOND);
    assert!(site.relies(late));
    assert_eq!(site.refused("another_number"), 1);
}

#[test]
fn g12_forever_nothing_is_deleted_on_behalf() {
    let mut site = Site::new(ReferencePolicy::Forever, &[1, 2]);
    site.happen(Fault::Crash(site.binlds[0]));
    site.world.run_ms(3 * ALL_OVER);
    assert!(site.relies(site.binlds[0]));
    assert_eq!(site.asked(), [0, 0], "it is not even told as stale");
}

/// Who is cut off takes the others for dead and has nothing deleted; it is itself cleaned up after, and when it is back
/// it has its reference back. Nobody got the address meanwhile.
#[test]
fn g12_who_was_only_cut_off_deletes_nothing_and_gets_its_reference_back() {
    let mut site = Site::new(ReferencePolicy::Lease, &[1, 2, 4]);
    let lone = site.binlds[0];
    site.cut_off(lone);
    site.world.run_ms(ALL_OVER);
    assert_eq!(site.world.counter(lone, "behalf.asked"), 0);
    assert_eq!((site.relies(lone), site.references().len()), (false, 2));
    site.happen(Fault::Heal);
    site.world.run_ms(60 * SECOND);
    assert!(site.relies(lone));
    assert_eq!(site.references().len(), 3);
}

/// One asks until it is done; if it dies as well, the next one does.
#[test]
fn g12_a_survivor_that_dies_is_followed_by_another() {
    let mut site = Site::new(ReferencePolicy::Lease, &[1, 2, 4]);
    let dead = site.binlds[0];
    let lost: Rc<RefCell<Vec<usize>>> = Rc::default();
    let seen = Rc::clone(&lost);
    site.world.drop_if(move |_, passing| {
        let is_it = passing.control().is_some_and(|it| matches!(it.message, Message::DeleteForDead(_)));
        if is_it {
            seen.borrow_mut().push(passing.from);
        }
        is_it
    });
    site.happen(Fault::Crash(dead));
    site.world.run_ms(ALL_OVER);
    let first = *lost.borrow().first().expect("somebody asks");
    assert!(lost.borrow().iter().all(|from| *from == first), "one asks, again and again");
    site.happen(Fault::Crash(first));
    site.world.world.drop_nothing();
    site.world.run_ms(90 * SECOND);
    assert!(!site.relies(dead));
}
