//! Who has which address, and how they came by it.
//!
//! * **I1** no address is handed out with two contents. Where datagrams are lost a duplicate must be *explainable*:
//!   of the later claimant's queries each one was lost, or met nobody who had to object, or its echo was lost or late.
//! * **L2** a server echoes a query exactly if it has the address for something else, or asks for it with a greater
//!   key; with a lesser key it gives the address up.
//! * **L3** nobody takes an address after an objection has reached it.
//! * **I6** some time after everything was mended, what is handed out twice because of losses no longer is.
//!
//! A legacy peer ([`crate::legacy`]) has rules of its own: it does not defend what it asks for, and never gives up what
//! it has. Where it and another one asked at the same time, that explains a duplicate as losses do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use driver::Time;
use wire::query::{Opcode, Query};
use wire::{Content, GroupAddr};

use super::{Checks, Rules};
use crate::program::{Claimed, Stage, Standing};

/// Exchanges older than this explain nothing any more: the longest clearing takes 3.6 s.
const EXCHANGES_KEPT: Duration = Duration::from_secs(30);

/// A claim, for one host: its content, and whether it is the one to the pinned tuple.
type Key = (Content, bool);

/// One query on its way to one server, and the echo on its way back.
#[derive(Debug)]
struct Exchange {
    datagram: u64,
    from: usize,
    to: usize,
    content: Content,
    sent_at: Time,
    heard_at: Option<Time>,
    /// Who had to object when it was heard, and why.
    objection: Option<String>,
    echo: Option<(u64, Option<Time>)>,
    /// The hearer had heard too much of that source lately.
    refused: bool,
}

/// How a claim came by its address.
#[derive(Debug, Clone)]
struct Attempt {
    group: GroupAddr,
    began_at: Time,
    /// When silence was taken for consent; `None` while it asks.
    committed_at: Option<Time>,
    /// It was committed before: whether it stays is settled by statements (Y4, Y7), not by this round's echoes.
    again: bool,
    /// Queries and echoes that did not arrive in time.
    losses: usize,
    /// An objection that was made and should have been heeded, or should have been made.
    broken: Option<String>,
}

/// What is remembered of queries, echoes and claims.
#[derive(Debug, Default)]
pub(super) struct Uniqueness {
    exchanges: BTreeMap<GroupAddr, Vec<Exchange>>,
    attempts: BTreeMap<(usize, Key), Attempt>,
    held: BTreeMap<(GroupAddr, usize), Content>,
    legacies: BTreeSet<usize>,
    pruned_at: Time,
}

impl Checks {
    /// That host plays by the source, to the letter.
    pub fn on_legacy(&mut self, node: usize) {
        self.uniqueness.legacies.insert(node);
    }

    /// Contents held on that address, by host.
    pub fn held_on(&self, group: GroupAddr) -> impl Iterator<Item = (usize, &Content)> {
        let range = (group, 0)..=(group, usize::MAX);
        self.uniqueness.held.range(range).map(|((_, node), content)| (*node, content))
    }

    /// Whether losses were among what gave that host its claim there.
    #[must_use]
    pub fn had_losses(&self, node: usize, group: GroupAddr) -> bool {
        let mut of_node = self.uniqueness.attempts.iter().filter(|((owner, _), _)| *owner == node);
        of_node.any(|(_, attempt)| attempt.group == group && attempt.losses > 0)
    }

    /// A query or echo leaves `from` for `to`.
    pub fn on_sent(&mut self, now: Time, datagram: u64, from: usize, to: usize, bytes: &[u8]) {
        let Ok((opcode, query)) = Query::decode(bytes) else { return };
        if now.since(self.uniqueness.pruned_at) > EXCHANGES_KEPT {
            self.uniqueness.pruned_at = now;
            for exchanges in self.uniqueness.exchanges.values_mut() {
                exchanges.retain(|exchange| now.since(exchange.sent_at) < EXCHANGES_KEPT);
            }
        }
        let exchanges = self.uniqueness.exchanges.entry(query.group).or_default();
        match opcode {
            Opcode::Query => exchanges.push(Exchange {
                datagram,
                from,
                to,
                content: query.content,
                sent_at: now,
                heard_at: None,
                objection: None,
                echo: None,
                refused: false,
            }),
            Opcode::Echo => {
                let answered = exchanges.iter_mut().rev().find(|exchange| {
                    (exchange.from, exchange.to) == (to, from)
                        && exchange.content == query.content
                        && exchange.heard_at.is_some()
                        && exchange.echo.is_none()
                });
                if let Some(exchange) = answered {
                    exchange.echo = Some((datagram, None));
                }
            }
        }
    }

    /// A host hears a query or an echo, intact, while it stands like this on the address.
    pub fn on_heard(&mut self, now: Time, datagram: u64, node: usize, heard: &Heard<'_>) {
        let Some(exchanges) = self.uniqueness.exchanges.get_mut(&heard.query.group) else { return };
        for exchange in exchanges {
            if exchange.datagram == datagram && exchange.to == node && exchange.heard_at.is_none() {
                exchange.heard_at = Some(now);
                exchange.objection = heard.objection();
            }
            if let Some((echo, arrived @ None)) = &mut exchange.echo
                && *echo == datagram
                && exchange.from == node
            {
                *arrived = Some(now);
            }
        }
    }

    /// The host has dealt with a query it heard (L2).
    pub fn after_query(&mut self, now: Time, datagram: u64, node: usize, heard: &Heard<'_>, done: &Done) {
        let Heard { query, name, .. } = heard;
        if done.refused {
            let exchanges = self.uniqueness.exchanges.get_mut(&query.group).into_iter().flatten();
            for exchange in exchanges.filter(|it| it.datagram == datagram && it.to == node) {
                exchange.refused = true;
            }
            return;
        }
        if self.rules == Rules::SeedLiteral {
            return;
        }
        match (heard.objection(), done.echoed) {
            (Some(why), false) => {
                let text = format!("{name} did not echo a query for {}: it {why}", query.group);
                self.fail(now, "L2", text);
            }
            (None, true) if !heard.speaks_for_another() => {
                let text = format!("{name} echoed a query for {} that it may not object to", query.group);
                self.fail(now, "L2", text);
            }
            (Some(_) | None, true) | (None, false) => {}
        }
        for (content, standing) in heard.standings {
            let lesser = content_order(content) < content_order(&query.content);
            let stays = done.standings.contains(&(content.clone(), Standing::Pending));
            if *standing == Standing::Pending && lesser && stays {
                let text = format!("{name} has the lesser key on {} and did not yield", query.group);
                self.fail(now, "L2", text);
            }
        }
    }

    /// A boot server after a step.
    pub fn after_step(&mut self, now: Time, node: usize, claims: &[Claimed]) {
        for claim in claims {
            let key = (claim.content.clone(), claim.pinned);
            let Some(group) = claim.group else {
                self.uniqueness.attempts.remove(&(node, key));
                continue;
            };
            let again = claim.stage == Stage::AsksAgain;
            let asks = again || claim.stage == Stage::Asks;
            let known = self.uniqueness.attempts.get(&(node, key.clone()));
            let goes_on = known.is_some_and(|it| it.group == group && (it.committed_at.is_none() || !asks));
            if !goes_on {
                let attempt =
                    Attempt { group, began_at: now, committed_at: None, again, losses: 0, broken: None };
                self.uniqueness.attempts.insert((node, key.clone()), attempt);
            }
            if !asks {
                self.commit(now, node, &key);
            }
        }
        let held = |content: &Content, group: GroupAddr| {
            let mut claims = claims.iter();
            claims.any(|it| it.stage == Stage::Held && it.group == Some(group) && it.content == *content)
        };
        self.uniqueness.held.retain(|(group, owner), content| *owner != node || held(content, *group));
        for claim in claims.iter().filter(|claim| claim.stage == Stage::Held) {
            if let Some(group) = claim.group
                && self.uniqueness.held.insert((group, node), claim.content.clone()).is_none()
            {
                self.on_held(now, node, group, &claim.content);
            }
        }
    }

    /// A boot server died: it hands nothing out. How a legacy one came by what it has is not forgotten with it: its
    /// database has it when it starts again.
    pub(super) fn forget_claims(&mut self, node: usize) {
        let Uniqueness { held, attempts, legacies, .. } = &mut self.uniqueness;
        held.retain(|(_, owner), _| *owner != node);
        attempts.retain(|(owner, _), _| *owner != node || legacies.contains(owner));
    }

    /// All that a dead server knew is gone.
    pub fn on_store_lost(&mut self, node: usize) {
        self.uniqueness.attempts.retain(|(owner, _), _| *owner != node);
    }

    /// Everything was mended long ago (I6).
    pub fn expect_one_content_each(&mut self, now: Time) {
        let held: Vec<(GroupAddr, usize, Content)> = self
            .uniqueness
            .held
            .iter()
            .filter(|((_, node), _)| !self.uniqueness.legacies.contains(node))
            .map(|((group, node), content)| (*group, *node, content.clone()))
            .collect();
        for pair in held.windows(2) {
            let [(group, node, content), (other_group, other, theirs)] = pair else { continue };
            let legacy = self.held_on(*group).any(|(node, _)| self.uniqueness.legacies.contains(&node));
            if group == other_group && content != theirs && !legacy {
                let text = format!(
                    "{group} is still handed out twice, by host {node} for {content} and by host {other} for {theirs}"
                );
                self.fail(now, "I6", text);
            }
        }
    }

    /// The clearing is over: what became of its queries?
    fn commit(&mut self, now: Time, node: usize, key: &Key) {
        let attempt = self.uniqueness.attempts.get_mut(&(node, key.clone()));
        let Some(attempt) = attempt.filter(|attempt| attempt.committed_at.is_none()) else { return };
        attempt.committed_at = Some(now);
        let group = attempt.group;
        let exchanges = self.uniqueness.exchanges.get(&attempt.group).into_iter().flatten();
        let own = exchanges.filter(|exchange| {
            exchange.from == node && exchange.content == key.0 && exchange.sent_at >= attempt.began_at
        });
        for exchange in own.filter(|exchange| exchange.to != node) {
            match (&exchange.objection, exchange.heard_at, exchange.echo) {
                (_, None, _) | (Some(_), Some(_), Some((_, None))) => attempt.losses += 1,
                (Some(_), _, None) if exchange.refused => attempt.losses += 1,
                (Some(why), Some(heard_at), None) => {
                    let text = format!("its query was heard at {heard_at:?} by one that {why}: no echo");
                    attempt.broken = Some(text);
                }
                (Some(_), Some(_), Some((_, Some(told_at)))) if told_at < now => {
                    attempt.broken = Some(format!("an echo reached it at {told_at:?}, and it went on"));
                }
                (None, Some(_), _) | (Some(_), Some(_), Some((_, Some(_)))) => {}
            }
        }
        if attempt.again {
            attempt.broken = None;
        }
        if let Some(broken) = attempt.broken.clone().filter(|_| self.rules == Rules::Ours) {
            let text = format!("host {node} takes {group} for {}, though {broken}", key.0);
            self.fail(now, "L3", text);
        }
    }

    fn on_held(&mut self, now: Time, node: usize, group: GroupAddr, content: &Content) {
        let others: Vec<(usize, Content)> = self
            .held_on(group)
            .filter(|(other, theirs)| *other != node && *theirs != content)
            .map(|(other, theirs)| (other, theirs.clone()))
            .collect();
        for (other, theirs) in others {
            let attempts = [(node, content), (other, &theirs)].map(|(owner, content)| {
                let of_owner = self.uniqueness.attempts.iter().find(|((holder, (theirs, _)), attempt)| {
                    *holder == owner && theirs == content && attempt.group == group
                });
                of_owner.map(|(_, attempt)| attempt.clone())
            });
            let losses: usize = attempts.iter().flatten().map(|attempt| attempt.losses).sum();
            let broken = attempts.iter().flatten().find_map(|attempt| attempt.broken.clone());
            let legacy = [node, other].iter().any(|owner| self.uniqueness.legacies.contains(owner));
            let by_rule = legacy && matches!(&attempts, [Some(one), Some(two)] if one.overlaps(two));
            if (losses > 0 || by_rule) && broken.is_none() {
                self.explained += 1;
                self.explained_by_legacy += u64::from(losses == 0);
            } else {
                let why = broken.unwrap_or_else(|| "nothing was lost".to_owned());
                let text = format!(
                    "{group} is handed out twice, by host {node} for {content} and by host {other} for {theirs}: {why}"
                );
                self.fail(now, "I1", text);
            }
        }
    }
}

impl Attempt {
    /// Whether both asked at the same time, for a while.
    fn overlaps(&self, other: &Self) -> bool {
        let before = |one: &Self, two: &Self| one.committed_at.is_some_and(|at| at < two.began_at);
        !before(self, other) && !before(other, self)
    }
}

/// A query or echo as a host hears it.
#[derive(Debug)]
pub struct Heard<'a> {
    /// By whom.
    pub name: &'a str,
    /// What is asked.
    pub query: &'a Query,
    /// Whether it is a query, and of another program.
    pub foreign_query: bool,
    /// How the host stands on the address.
    pub standings: &'a [(Content, Standing)],
}

/// What a host did about a query.
#[derive(Debug)]
pub struct Done {
    /// It echoed.
    pub echoed: bool,
    /// It dropped it because its source had said too much lately.
    pub refused: bool,
    /// How it stands now.
    pub standings: Vec<(Content, Standing)>,
}

impl Heard<'_> {
    /// Whether the host may object for somebody who has the address for something else.
    fn speaks_for_another(&self) -> bool {
        let mut others = self.standings.iter().filter(|(_, standing)| *standing == Standing::ForAnother);
        self.foreign_query && others.any(|(content, _)| *content != self.query.content)
    }

    /// Why the host must object, if it must (Y1).
    fn objection(&self) -> Option<String> {
        if !self.foreign_query {
            return None;
        }
        self.standings.iter().find_map(|(content, standing)| {
            let differs = *content != self.query.content;
            let greater = content_order(content) > content_order(&self.query.content);
            match standing {
                Standing::Firm if differs => Some(format!("has it for {content}")),
                Standing::Pending if differs && greater => {
                    Some(format!("asks for it for {content}, the greater key"))
                }
                Standing::Firm | Standing::Pending | Standing::ForAnother => None,
            }
        })
    }
}

/// The order of keys: bytes 3–6 of the query, then 17 to the end.
fn content_order(content: &Content) -> ([u8; 4], usize, &[u8]) {
    let name = content.file.as_bytes();
    (content.server.octets(), name.len(), name)
}
