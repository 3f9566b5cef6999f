//! Orders of an operator, on the control socket.

use std::fmt;

use driver::Time;
use driver::cli::DONE;
use wire::ServerId;

use crate::engine::Engine;
use crate::engine::slices::NotStruck;

/// What an operator may order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Clients that all boot servers hear are left to the others.
    Drain,
    /// Not any more.
    Undrain,
    /// The daemon leaves its domain for good.
    Leave,
    /// That boot server is gone for good.
    StrikeOff(ServerId),
}

impl Order {
    pub(crate) const DRAIN: &str = "drain";
    pub(crate) const UNDRAIN: &str = "undrain";
    pub(crate) const LEAVE: &str = "leave";
    pub(crate) const STRIKE_OFF: &str = "strike-off";

    /// Reads what [`fmt::Display`] writes.
    pub(super) fn parse(request: &str) -> Option<Self> {
        match request {
            Self::DRAIN => return Some(Self::Drain),
            Self::UNDRAIN => return Some(Self::Undrain),
            Self::LEAVE => return Some(Self::Leave),
            _ => {}
        }
        let server = request.strip_prefix(Self::STRIKE_OFF)?.strip_prefix(' ')?;
        server.parse().ok().map(Self::StrikeOff)
    }

    /// Carries it out; gives what the operator is told.
    pub(super) fn carry_out(self, engine: &mut Engine, now: Time) -> String {
        match self {
            Self::Drain => {
                engine.drain_clients(now, true);
                tracing::warn!("drained, by an operator's order: clients are left to the other boot servers");
                format!(
                    "{DONE}other boot servers of the link take over within a second, as `status` shows; who asks this server alone is answered; until `undrain`, or a restart\n"
                )
            }
            Self::Undrain => {
                engine.drain_clients(now, false);
                tracing::info!("not drained any more, by an operator's order");
                format!("{DONE}this server takes its share of the clients again, when it has run for 30 s\n")
            }
            Self::Leave => {
                engine.on_leave(now);
                tracing::warn!("leaves the domain for good, by an operator's order");
                format!(
                    "{DONE}clients are answered no more, and the daemon ends when every address is given back and has rested: some minutes\n"
                )
            }
            Self::StrikeOff(server) => match engine.strike_off(now, server) {
                Ok(()) => {
                    tracing::warn!(%server, "struck off the list of boot servers, by an operator's order");
                    format!(
                        "{DONE}{server} is off the list as soon as all other members agree; do not start it again before `status` shows that\n"
                    )
                }
                Err(NotStruck::Us) => format!("{server} is this server itself: use `binld leave`\n"),
                Err(NotStruck::NoMember) => {
                    format!("{server} is on no list of boot servers; `binld status` shows who is\n")
                }
                Err(NotStruck::Lives) => {
                    format!("{server} is running: use `binld leave` on its host, or stop it first\n")
                }
            },
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain => f.write_str(Self::DRAIN),
            Self::Undrain => f.write_str(Self::UNDRAIN),
            Self::Leave => f.write_str(Self::LEAVE),
            Self::StrikeOff(server) => write!(f, "{} {server}", Self::STRIKE_OFF),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_is_written() {
        for order in [Order::Drain, Order::Undrain, Order::Leave, Order::StrikeOff(ServerId([7; 16]))] {
            assert_eq!(Order::parse(&order.to_string()), Some(order));
        }
        for nonsense in ["", "leave now", "drain 7", "undrain ", "strike-off", "strike-off 7", "strike-off  "]
        {
            assert_eq!(Order::parse(nonsense), None, "{nonsense}");
        }
    }
}
