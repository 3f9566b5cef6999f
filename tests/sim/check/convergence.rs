//! **I6** what members of a domain know: while nothing is wrong all of them have the same records, and go by it, at least
//! once in every [`CONVERGED_WITHIN`]. So it is after each heal, after each start, and when all faults are over.
//!
//! *Nothing is wrong*: all daemons run, none is paused, and the link brings everything that is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use driver::Time;
use peers::domain::{Domain, Standing};
use wire::record::{Age, RecordKind, Snum, Uid};
use wire::{DomainId, ServerId};

use super::Checks;
use crate::node::Node;

/// Promised for up to 32 members (`reliability.md`, I6).
pub const CONVERGED_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked at.
pub const COMPARED_EVERY: Duration = Duration::from_millis(50);
/// Records that differ, shown.
const SHOWN: usize = 4;

/// Since when members differ though nothing is wrong.
#[derive(Debug, Clone, Default)]
pub struct Convergence {
    since: Option<Time>,
    /// How long it took at most, after something went wrong or changed.
    pub longest: Duration,
}

impl Convergence {
    /// Looks at all daemons; `calm`: nothing is wrong. True when they have just converged.
    pub fn look(&mut self, now: Time, calm: bool, daemons: &[&Node], checks: &mut Checks) -> bool {
        if !calm {
            self.since = Some(now);
            return false;
        }
        let Some(difference) = difference(now, daemons) else {
            let took = self.since.take().map(|since| now.since(since));
            self.longest = self.longest.max(took.unwrap_or_default());
            return took.is_some();
        };
        let since = *self.since.get_or_insert(now);
        if now.since(since) > CONVERGED_WITHIN {
            checks.fail(
                now,
                "I6",
                format!("{difference}, {CONVERGED_WITHIN:?} after nothing was wrong any more"),
            );
        }
        false
    }
}

/// In what members of one domain differ, in words.
fn difference(now: Time, daemons: &[&Node]) -> Option<String> {
    let mut domains: BTreeMap<DomainId, Vec<(&Node, ServerId, &Domain)>> = BTreeMap::new();
    for node in daemons {
        let Some((domain, server, member)) = node.member() else { continue };
        domains.entry(domain).or_default().push((node, server, member));
    }
    domains.values().find_map(|members| {
        let living: BTreeSet<ServerId> = members.iter().map(|(_, server, _)| *server).collect();
        let (first, _, known) = members.first()?;
        let records = |node: &Node, member: &Domain| records(member, node.local(now));
        let differs =
            members.iter().find(|(_, _, member)| member.records().digest() != known.records().digest());
        if let Some((other, _, member)) = differs {
            let (ours, theirs) = (records(first, known), records(other, member));
            let only = |these: &BTreeSet<(Uid, Snum)>, those: &BTreeSet<(Uid, Snum)>| -> Vec<(Uid, Snum)> {
                these.difference(those).take(SHOWN).copied().collect()
            };
            return Some(format!(
                "{} and {} differ: {:?}, {:?}",
                first.name,
                other.name,
                only(&ours, &theirs),
                only(&theirs, &ours)
            ));
        }
        members.iter().find_map(|(node, _, member)| {
            let standing = member.standing(node.local(now));
            let expected = match standing {
                Standing::Joined => true,
                Standing::Alone => living.len() == 1,
                // Who has another name since its store was replaced is missed under the old one.
                Standing::Partitioned { .. } => {
                    member.unreachable().all(|gone| !living.contains(&gone.server))
                }
                Standing::Joining | Standing::Comparing => false,
            };
            (!expected).then(|| format!("{} is {standing:?} among {}", node.name, living.len()))
        })
    })
}

fn records(member: &Domain, now: Time) -> BTreeSet<(Uid, Snum)> {
    let kept = member.records().entries(now, Uid::MIN..=Uid::MAX, usize::MAX).into_iter();
    kept.filter(|it| it.age != Age::DELETED && it.uid.kind != RecordKind::Lowest)
        .map(|it| (it.uid, it.snum))
        .collect()
}
