//! Choices read off bytes, by hand: a small change of the bytes is a small change of the choices, which is what a
//! fuzzer that changes bytes wants.

use std::net::SocketAddrV4;

use driver::Role;

/// The bytes that are left. When they are over every choice is the first.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// All of them.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next two, the high one first.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number below `bound`, which is at most 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    /// One of these.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from.get(self.below(from.len())).expect("something to pick from").clone()
    }

    /// True for an odd byte.
    pub fn coin(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A piece with its length in two bytes before it, or what there is.
    pub fn piece(&mut self) -> &'a [u8] {
        let count = usize::from(self.word()).min(self.0.len());
        let (piece, rest) = self.0.split_at(count);
        self.0 = rest;
        piece
    }

    /// Up to eight small changes of a datagram: bytes replaced or flipped, cut, repeated, added.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(8) {
            let at = usize::from(self.word()) % (bytes.len() + 1);
            let how = self.byte();
            match (how % 6, bytes.get_mut(at)) {
                (0, Some(byte)) => *byte = self.byte(),
                (1, Some(byte)) => *byte ^= 1 << (how / 6 % 8),
                (2, Some(byte)) => *byte = byte.wrapping_add(1),
                (3, _) => bytes.truncate(at),
                (4, _) => bytes.insert(at, self.byte()),
                (5, Some(_)) => {
                    bytes.remove(at);
                }
                _ => bytes.push(how),
            }
        }
    }
}

/// A datagram that went in, to be sent again with changes.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Through which door.
    pub role: Role,
    /// From where.
    pub from: SocketAddrV4,
    /// What it said.
    pub bytes: Vec<u8>,
}

/// Whether a host can be sent to there.
#[must_use]
pub fn is_host(to: SocketAddrV4) -> bool {
    let ip = to.ip();
    to.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast()
}
