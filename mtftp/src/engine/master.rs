//! Whose ACKs pace a session.

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
