//! What a forged request can draw from the file server (`reliability.md`, amplification).
#![allow(clippy::panic, reason = "tests fail by panicking")]

use sim::amplification::{Drawn, all};

#[test]
fn before_the_first_ack_little_goes_out() {
    let all = all();
    for Drawn { what, bytes, multicast, most, .. } in &all {
        let out = bytes + multicast;
        assert!(out <= *most, "{what} draws {out} bytes, {most} are allowed");
    }
    // What is not refused does draw something: else the limits would hold because nothing works.
    let served = all.iter().filter(|drawn| drawn.what.starts_with("read request") && drawn.packets > 1);
    assert_eq!(served.count(), 7);
    let open = all.iter().find(|drawn| drawn.what == "PXE-MTFTP open").map(|drawn| drawn.packets);
    assert!(open.is_some_and(|packets| packets > 0));
}

#[test]
fn each_answer_to_options_is_hardly_longer_than_the_request() {
    for drawn in all().iter().filter(|drawn| drawn.packets == 5) {
        assert!(drawn.longest * 2 <= drawn.asked * 3, "{drawn:?}");
    }
}

#[test]
fn what_is_refused_draws_one_error() {
    for drawn in all().iter().filter(|drawn| drawn.packets == 1) {
        assert!(drawn.longest <= 60, "{drawn:?}");
    }
}
