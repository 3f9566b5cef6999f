//! Whose ACKs pace a session, and what its other clients do.

use std::net::SocketAddrV4;

use driver::Time;

/// The client whose ACKs drive the session now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MasterClient {
    pub(crate) client: SocketAddrV4,
    /// The block sent to it last.
    pub(crate) block: u16,
    /// When it was last heard, or named.
    pub(crate) heard_at: Time,
    /// Resends since its last progress.
    pub(crate) tries: u32,
    /// Blocks sent to the group at its pace.
    pub(crate) paced: u16,
}

/// What a session waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The next ACK of one client.
    Master(MasterClient),
    /// ACKs of all who were asked.
    Answers,
    /// An open.
    Idle,
}

/// What a client does in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenerRole {
    /// Its ACKs set the pace.
    Master,
    /// It listens, or waits for its turn.
    Listener,
    /// It was too slow for the others, and waits until they are done.
    Slow,
    /// It was too slow for the others, and gets the rest by unicast.
    Unicast,
}

impl OpenerRole {
    /// A word that does not change.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Listener => "listener",
            Self::Slow => "slow",
            Self::Unicast => "unicast",
        }
    }
}
