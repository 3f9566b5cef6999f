//! Who shall get an ERROR from port 69 instead of the file: iPXE that leaves a multicast transfer in the middle and
//! has heard the last block would take one packet of the plain transfer and boot an image with holes.

use std::net::SocketAddrV4;

use driver::Time;

use crate::limits::TRACE_KEEP;

/// What is known of an address that opened a session, from its last open on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Trace {
    /// The last block went out since.
    pub(crate) last_sent: bool,
    /// It ACKed the last block.
    pub(crate) last_acked: bool,
    /// The port that got the ERROR, and when: one per open.
    pub(crate) refused: Option<(u16, Time)>,
}

impl Trace {
    /// Whether this request gets the ERROR. Once given, the same port gets it again for 3 s, any other the file.
    pub(crate) fn refuses(&mut self, now: Time, client: SocketAddrV4) -> bool {
        match self.refused {
            Some((port, at)) => port == client.port() && now.since(at) < TRACE_KEEP,
            None if self.last_sent && !self.last_acked => {
                self.refused = Some((client.port(), now));
                true
            }
            None => false,
        }
    }
}
