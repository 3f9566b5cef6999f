//! What an operator orders while the daemon runs, as lines of the control socket.

use std::fmt::{self, Display, Write};

use driver::cli::DONE;
use driver::table::ago;
use wire::{GroupAddr, ServerId};

use crate::engine::{Forgotten, Started};
use crate::limits::{CLOSING_MAX, REST, REST_PINNED};

/// To delete a reference on behalf of its BINLD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forget {
    /// The address.
    pub group: GroupAddr,
    /// Whose reference.
    pub binld: ServerId,
    /// Also if it is not stale.
    pub force: bool,
}

impl Forget {
    /// The name of the order.
    pub const NAME: &'static str = "forget";

    /// Reads what [`Display`] writes; `None` if it is another request.
    pub(super) fn parse(request: &str) -> Option<Result<Self, String>> {
        let words: Vec<&str> = request.split_ascii_whitespace().collect();
        let (group, binld, force) = match words.as_slice() {
            [Self::NAME, group, binld] => (group, binld, false),
            [Self::NAME, group, binld, "force"] => (group, binld, true),
            [Self::NAME, ..] => {
                return Some(Err(format!("write `{} ADDRESS BINLD-ID [force]`", Self::NAME)));
            }
            _ => return None,
        };
        let read = || Ok(Self { group: group.parse()?, binld: binld.parse()?, force });
        Some(read())
    }

    /// What the operator reads; `pinned` says whether it is the pinned address.
    pub(super) fn answer(self, pinned: bool, outcome: &Forgotten) -> String {
        let Self { group, binld, .. } = self;
        let rest = ago(if pinned { REST_PINNED } else { REST });
        match outcome {
            Forgotten::Done { released: true } => format!(
                "{DONE}{group} no longer has a reference of {binld}; it was the last one: the address rests for {rest}\n"
            ),
            Forgotten::Done { released: false } => {
                format!("{DONE}{group} no longer has a reference of {binld}; others still rely on it\n")
            }
            Forgotten::Closing => format!(
                "{DONE}{group} takes no new opens; the last reference, of {binld}, goes when its session ends, within {}\n",
                ago(CLOSING_MAX)
            ),
            Forgotten::NoSuchAddress(there) => {
                format!("nobody relies on {group}; {}\n", list("addresses with references", there))
            }
            Forgotten::NoSuchReference(there) => {
                format!("{binld} does not rely on {group}; {}\n", list("those who do", there))
            }
            Forgotten::NotStale(left) => {
                let when = left.map_or("it never will be (references = \"forever\")".to_owned(), |left| {
                    format!("it will be in {} unless its BINLD renews it", ago(left))
                });
                format!(
                    "the reference of {binld} on {group} is not stale, {when}; --force deletes it all the same\n"
                )
            }
            Forgotten::Busy => format!(
                "the reference of {binld} on {group} is being configured or deleted right now: look at `status`, try again\n"
            ),
            Forgotten::NotStored => format!(
                "the store failed (the log says why): the reference of {binld} on {group} is still there\n"
            ),
        }
    }
}

impl Display for Forget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, binld, force } = self;
        write!(f, "{} {group} {binld}{}", Self::NAME, if *force { " force" } else { "" })
    }
}

/// To begin what waits on an address for more clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The address.
    pub group: GroupAddr,
}

impl Start {
    /// The name of the order.
    pub const NAME: &'static str = "start";

    /// Reads what [`Display`] writes; `None` if it is another request.
    pub(super) fn parse(request: &str) -> Option<Result<Self, String>> {
        let words: Vec<&str> = request.split_ascii_whitespace().collect();
        match words.as_slice() {
            [Self::NAME, group] => Some(group.parse().map(|group| Self { group })),
            [Self::NAME, ..] => Some(Err(format!("write `{} ADDRESS`", Self::NAME))),
            _ => None,
        }
    }

    /// What the operator reads.
    pub(super) fn answer(self, outcome: &Started) -> String {
        let Self { group } = self;
        match outcome {
            Started::Begun(clients) => {
                format!("{DONE}the transfer on {group} begins, for {clients} clients\n")
            }
            Started::NothingWaits => {
                format!(
                    "nothing waits on {group}: nobody has asked for its file yet, or it has begun; see `status`\n"
                )
            }
            Started::NoSuchAddress(there) => {
                format!("nobody relies on {group}; {}\n", list("addresses with references", there))
            }
        }
    }
}

impl Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Self::NAME, self.group)
    }
}

fn list<T: Display>(what: &str, there: &[T]) -> String {
    if there.is_empty() {
        return format!("{what}: none");
    }
    there.iter().enumerate().fold(format!("{what}: "), |mut text, (number, one)| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{one}", if number > 0 { ", " } else { "" });
        text
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn order(force: bool) -> Forget {
        let group = GroupAddr::new(Ipv4Addr::new(239, 255, 7, 1)).unwrap();
        Forget { group, binld: ServerId([0xab; 16]), force }
    }

    #[test]
    fn an_order_is_read_as_it_is_written() {
        for force in [false, true] {
            assert_eq!(Forget::parse(&order(force).to_string()), Some(Ok(order(force))));
        }
        assert_eq!(Forget::parse("status"), None);
        for wrong in ["forget", "forget 239.255.7.1", "forget 10.0.0.1 ab", "forget 239.255.7.1 ab"] {
            assert!(matches!(Forget::parse(wrong), Some(Err(_))), "{wrong}");
        }
    }

    #[test]
    fn an_order_to_start_is_read_and_answered() {
        let start = Start { group: order(false).group };
        assert_eq!(Start::parse(&start.to_string()), Some(Ok(start)));
        assert_eq!(Start::parse("forget"), None);
        for wrong in ["start", "start 10.0.0.1", "start 239.255.7.1 now"] {
            assert!(matches!(Start::parse(wrong), Some(Err(_))), "{wrong}");
        }
        let table = [
            (Started::Begun(3), true, "for 3 clients"),
            (Started::NothingWaits, false, "nothing waits"),
            (Started::NoSuchAddress(vec![start.group]), false, "references: 239.255.7.1"),
        ];
        for (outcome, done, part) in table {
            let answer = start.answer(&outcome);
            assert_eq!((answer.starts_with(DONE), answer.contains(part)), (done, true), "{answer}");
        }
    }

    /// Only what was carried out begins as such, and refusals name what is there.
    #[test]
    fn answers_say_what_became_of_it() {
        let id = "ab".repeat(16);
        let table = [
            (Forgotten::Done { released: true }, true, "rests for 5m 00s"),
            (Forgotten::Done { released: false }, true, "others still rely"),
            (Forgotten::Closing, true, "within 2m 00s"),
            (Forgotten::NoSuchAddress(vec![]), false, "addresses with references: none"),
            (Forgotten::NoSuchAddress(vec![order(false).group; 2]), false, "239.255.7.1, 239.255.7.1"),
            (Forgotten::NoSuchReference(vec![order(false).binld]), false, id.as_str()),
            (Forgotten::NotStale(Some(Duration::from_secs(70))), false, "in 1m 10s"),
            (Forgotten::NotStale(None), false, "forever"),
            (Forgotten::Busy, false, "right now"),
            (Forgotten::NotStored, false, "still there"),
        ];
        for (outcome, done, part) in table {
            let answer = order(false).answer(false, &outcome);
            assert_eq!(answer.starts_with(DONE), done, "{answer}");
            assert!(answer.contains(part) && answer.ends_with('\n'), "{answer}");
        }
        assert!(order(false).answer(true, &Forgotten::Done { released: true }).contains("rests for 10s"));
    }
}
