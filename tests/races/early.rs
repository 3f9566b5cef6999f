//! Early clear: all say that they have nothing against it (T11).

use std::cell::Cell;
use std::net::SocketAddrV4;
use std::rc::Rc;

use driver::{Role, Transmit};
use wire::clear::{ClearAnswer, ClearVerdict};
use wire::control::Envelope;

use super::*;

/// Boot servers that have found each other, and what each would want.
fn members(world: &mut Scenario, count: u8) -> Vec<usize> {
    members_since(world, count, LONG)
}

/// The same so early that it is not agreed yet whose the addresses are: nobody asks for those of others later.
fn newcomers(world: &mut Scenario, count: u8) -> Vec<usize> {
    members_since(world, count, 2100)
}

fn members_since(world: &mut Scenario, count: u8, millis: u64) -> Vec<usize> {
    let binlds: Vec<usize> =
        (1..=count).map(|number| world.binld(host(number), &[], TRUE_CLOCK, NOW)).collect();
    for number in 1..=count {
        world.mtftp(host(100 + number), &["f"], TRUE_CLOCK, NOW);
    }
    world.run_ms(millis);
    binlds
}

/// From now on that boot server wants its own file on an address.
fn wants(world: &mut Scenario, binld: usize, number: u8, of: fn(u8, Ipv4Addr) -> Wants) {
    let catalog = sim::scenario::catalog(&[of(number, host(100 + number))]);
    world.world.at(world.world.now(), Fault::Reload(binld, catalog));
}

#[test]
fn early_all_say_clear_and_clearing_ends() {
    let mut world = quiet(1);
    let binlds = members(&mut world, 8);
    wants(&mut world, binlds[0], 1, dynamic);
    // The catalog is compared every 50 ms. A reading of the file's size, seven answers, a write and a configure: no schedule is that short.
    world.run_until_state(binlds[0], StateName::Held, 100);
    assert_eq!(world.counter(binlds[0], "clear.early"), 1);
    assert_eq!(world.counter(binlds[0], "query.sent"), 1);
    assert_eq!(binlds.iter().map(|binld| world.counter(*binld, "clear.said")).sum::<u64>(), 7);
}

#[test]
fn early_what_is_lost_is_asked_again_of_who_has_not_answered() {
    let mut world = quiet(1);
    let binlds = members(&mut world, 4);
    let (first, mut lost) = (binlds[0], 0);
    world.drop_if(move |_, passing| {
        let answer = passing
            .control()
            .is_some_and(|it| matches!(it.message, Message::ClearAnswer(_)) && passing.to == first);
        lost += u32::from(answer);
        answer && lost <= 2
    });
    wants(&mut world, first, 1, dynamic);
    world.run_until_state(first, StateName::Held, 100);
    assert_eq!((world.counter(first, "clear.early"), world.counter(first, "clear.asked_again")), (1, 2));
}

#[test]
fn early_one_that_lives_and_does_not_answer_costs_the_full_schedule() {
    let mut world = quiet(1);
    let binlds = members(&mut world, 4);
    world.drop_if({
        let silent = binlds[3];
        move |_, passing| {
            passing.from == silent
                && passing.control().is_some_and(|it| matches!(it.message, Message::ClearAnswer(_)))
        }
    });
    wants(&mut world, binlds[0], 1, dynamic);
    // The background schedule: 3.6 s.
    world.run_ms(3500);
    assert_eq!(world.claim(binlds[0]).state, StateName::Clearing);
    world.run_until_state(binlds[0], StateName::Held, 500);
    assert_eq!(world.counter(binlds[0], "clear.early"), 0);
}

#[test]
fn early_never_while_somebody_speaks_only_the_frozen_packet() {
    let mut world = quiet(1);
    let binlds = members(&mut world, 3);
    world.literal(host(99), &[77], world.world.now());
    world.run_ms(LONG);
    wants(&mut world, binlds[0], 1, dynamic);
    world.run_until_state(binlds[0], StateName::Held, LONG);
    assert_eq!((world.counter(binlds[0], "clear.asked"), world.counter(binlds[0], "clear.early")), (0, 0));
}

#[test]
fn early_of_several_that_ask_at_once_one_gets_it() {
    for seed in 0..60 {
        let mut world = Scenario::new(seed, LinkFaults::loss(100_000), Rules::Ours);
        let binlds = members(&mut world, 4);
        // In every other one nothing but the word decides.
        let wordy = seed % 2 == 0;
        world.drop_if(move |_, passing| wordy && (is_query(passing) || is_echo(passing)));
        for (number, binld) in (1..).zip(&binlds) {
            wants(&mut world, *binld, number, pinned);
        }
        world.run_ms(2 * LONG);
        let held = binlds.iter().filter(|binld| world.claim(**binld).state == StateName::Held).count();
        assert_eq!((held, world.world.checks.explained), (1, 0), "seed {seed}");
    }
}

/// The asker is stopped between the first answer and the last, just long enough to count as dead; another one takes the
/// address. When it goes on the others are still living to it.
#[test]
fn early_an_answer_from_before_a_pause_is_worth_nothing() {
    let mut taken = 0;
    for phase in 0..30 {
        let mut world = quiet(1);
        let binlds = newcomers(&mut world, 3);
        let (asker, other, late) = (binlds[0], binlds[1], binlds[2]);
        world.run_ms(10 * phase);
        let asked = Rc::new(Cell::new(0));
        let nonce = Rc::clone(&asked);
        world.drop_if(move |_, passing| {
            let envelope = passing.control();
            if let Some(Message::ClearAsk(ask)) = envelope.as_ref().map(|it| &it.message) {
                nonce.set(ask.nonce);
            }
            let answer = envelope.is_some_and(|it| matches!(it.message, Message::ClearAnswer(_)));
            (answer && passing.from == late) || (passing.from == asker && is_query(passing))
        });
        wants(&mut world, asker, 1, pinned);
        world.run_until_state(asker, StateName::Clearing, 100);
        world.run_ms(4);
        let now = world.world.now();
        world.world.at(now, Fault::Pause(asker, Duration::from_millis(2950)));
        world.run_ms(0);
        // Under way when it stops: the first thing that it reads when it goes on.
        world.world.drop_nothing();
        let group = GroupAddr::new(PINNED).expect("a multicast address");
        let message =
            Message::ClearAnswer(ClearAnswer { group, nonce: asked.get(), verdict: ClearVerdict::Clear });
        let sender = wire::ServerId([0xa0 + u8::try_from(late).expect("few hosts"); 16]);
        let envelope = Envelope { sender, boot_epoch: wire::BootEpoch(1), sequence: u64::MAX, message };
        let to = SocketAddrV4::new(host(1), 4016);
        world.world.say(late, &Transmit { role: Role::Control, to, bytes: envelope.encode() });
        world.run_ms(2750);
        wants(&mut world, other, 2, pinned);
        world.run_ms(150);
        taken += u32::from(world.claim(other).state == StateName::Held);
        world.run_ms(200);
        assert_eq!(world.counter(asker, "clear.early"), 0, "phase {phase}");
        world.run_ms(2 * LONG);
        assert_eq!(world.world.checks.explained, 0, "phase {phase}");
        let held = states(&world, [asker, other]).iter().filter(|it| **it == StateName::Held).count();
        assert_eq!(held, 1, "phase {phase}");
    }
    assert!(taken > 0, "the other one never was told clear by all that it took for living");
}

/// The one with the lesser key asks, and is refused by one that asks itself.
#[test]
fn early_who_asks_with_the_better_right_does_not_consent() {
    let mut world = quiet(1);
    let binlds = newcomers(&mut world, 2);
    let greater = binlds[1];
    world.drop_if(move |_, passing| {
        let asks = passing.control().is_some_and(|envelope| matches!(envelope.message, Message::ClearAsk(_)));
        is_query(passing) || is_echo(passing) || (asks && passing.from == greater)
    });
    wants(&mut world, greater, 2, pinned);
    world.run_until_state(greater, StateName::Clearing, 100);
    wants(&mut world, binlds[0], 1, pinned);
    world.run_ms(500);
    assert_eq!(world.claim(binlds[0]).state, StateName::Waiting);
    assert!(world.counter(greater, "clear.refused") >= 1);
    world.run_ms(3 * LONG);
    let held = states(&world, [binlds[0], greater]);
    assert_eq!(held.iter().filter(|state| **state == StateName::Held).count(), 1, "{held:?}");
}

/// Silence is waited for until nobody was heard for ten minutes who speaks only the frozen packet.
fn patient() -> Scenario {
    let mut world = quiet(1);
    world.legacy_peers.unheard = Duration::from_secs(600);
    world
}

/// The process dies, and another one starts so many milliseconds later; then it listens for a while itself.
fn restart(world: &mut Scenario, binld: usize, after: u64) {
    let now = world.world.now();
    world.world.at(now, Fault::Crash(binld));
    world.world.at(now + Duration::from_millis(after), Fault::Start(binld));
    world.run_ms(after + 40_000);
}

/// Whether that boot server clears early now.
fn clears_early(world: &mut Scenario, binld: usize) -> bool {
    wants(world, binld, 1, dynamic);
    world.run_until_state(binld, StateName::Held, LONG);
    world.counter(binld, "clear.early") == 1
}

#[test]
fn early_who_listened_for_long_goes_on_after_a_restart() {
    for (after, early) in [(3_000, true), (100_000, false)] {
        let mut world = patient();
        let binlds = members(&mut world, 2);
        world.run_ms(610_000);
        restart(&mut world, binlds[0], after);
        assert_eq!(clears_early(&mut world, binlds[0]), early, "down for {after} ms");
    }
}

#[test]
fn early_a_restart_begins_nothing_sooner_than_an_announcement_takes() {
    let mut world = patient();
    let binlds = members(&mut world, 2);
    world.run_ms(610_000);
    let now = world.world.now();
    world.world.at(now, Fault::Crash(binlds[0]));
    world.world.at(now + Duration::from_secs(3), Fault::Start(binlds[0]));
    world.run_ms(20_000);
    assert!(!clears_early(&mut world, binlds[0]));
}

/// Two restarts, each long before the span is over: what was listened adds up.
#[test]
fn early_spans_of_several_lives_add_up() {
    let mut world = patient();
    let binlds = members(&mut world, 2);
    for _ in 0..2 {
        world.run_ms(250_000);
        restart(&mut world, binlds[0], 3_000);
    }
    assert!(!clears_early(&mut world, binlds[0]), "ten minutes are not over");
    let mut world = patient();
    let binlds = members(&mut world, 2);
    for _ in 0..2 {
        world.run_ms(350_000);
        restart(&mut world, binlds[0], 3_000);
    }
    assert!(clears_early(&mut world, binlds[0]));
}

/// A server that asked once, and has nothing to defend: nobody hears of it again.
#[test]
fn early_who_was_heard_before_a_restart_is_reckoned_with() {
    // Long ago; just before the crash; before the clock was set forward by more than a day, or back.
    for (ago, step_ms) in [(3_600_000, 0), (2_000, 0), (700_000, 90_000_000), (700_000, -90_000_000)] {
        let mut world = patient();
        let binlds = members(&mut world, 2);
        world.run_ms(610_000);
        let legacy = world.literal(host(99), &[77], world.world.now());
        world.run_ms(500);
        world.world.at(world.world.now(), Fault::Crash(legacy));
        world.run_ms(1_000);
        world.world.at(world.world.now(), Fault::WallStep(binlds[0], step_ms));
        world.run_ms(ago);
        restart(&mut world, binlds[0], 3_000);
        assert_eq!(world.status(binlds[0]).legacy_peers, [host(99)], "{ago} ms ago, {step_ms}");
        assert!(!clears_early(&mut world, binlds[0]), "{ago} ms ago, {step_ms}");
    }
}

#[test]
fn early_a_clock_that_was_set_back_meanwhile_is_not_trusted() {
    let mut world = patient();
    let binlds = members(&mut world, 2);
    world.run_ms(610_000);
    let now = world.world.now();
    world.world.at(now, Fault::Crash(binlds[0]));
    // It was down for three minutes, and the clock says that it was two before its end.
    world.world.at(now + Duration::from_secs(1), Fault::WallStep(binlds[0], -300_000));
    world.world.at(now + Duration::from_secs(180), Fault::Start(binlds[0]));
    world.run_ms(220_000);
    assert!(!clears_early(&mut world, binlds[0]));
}
