//! One seed, many streams of randomness.

use driver::Draw;

/// A generator for one purpose: what is drawn for another does not move it.
#[must_use]
pub fn stream(seed: u64, purpose: &str) -> Draw {
    let mixed = purpose.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5)
    });
    Draw::from_seed(mixed)
}
