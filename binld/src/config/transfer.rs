//! How an MTFTP server shall treat the clients of a boot item's multicast file.

use driver::config::Text;
use serde::{Deserialize, Serialize};
use wire::policy::{Policy, SlowClients};

/// The longest that clients may be kept waiting for each other, in seconds: an hour.
pub(super) const START_WITHIN_MAX: u16 = 3600;

/// `[item.boot.transfer]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transfer {
    /// What becomes of a client that keeps others waiting.
    pub slow: Text<SlowClients>,
    /// Slow is who takes fewer bytes a second while it sets the pace; 0: nobody is for that.
    pub slow_below: u32,
    /// Slow is who leaves so many blocks in a row without an ACK in time; 0: nobody is for that.
    pub slow_silences: u8,
    /// The first block waits for so many clients.
    pub start_clients: u16,
    /// But for so many seconds at most.
    pub start_within_s: u16,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            slow: Text(SlowClients::Keep),
            slow_below: 500_000,
            slow_silences: 5,
            start_clients: 1,
            start_within_s: 30,
        }
    }
}

impl Transfer {
    /// As the server is told it.
    pub(super) fn policy(&self) -> Policy {
        let Text(slow) = self.slow;
        let mut policy = Policy::default();
        if slow != SlowClients::Keep {
            policy = Policy { slow, silences: self.slow_silences, rate_min: self.slow_below, ..policy };
        }
        if self.start_clients > 1 {
            policy.start_clients = self.start_clients;
            policy.start_within_s = self.start_within_s;
        }
        policy
    }
}
