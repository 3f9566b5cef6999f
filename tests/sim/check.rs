//! What must hold after every step. The oracle knows the rules from `decisions.md`, not from the cores.
//!
//! * **I1** no address is handed out with two contents. Where datagrams are lost a duplicate must be *explainable*:
//!   of the later claimant's queries each one was lost, or met nobody who had to object, or its echo was lost or late.
//! * **L2** a server echoes a query exactly if it has the address for something else, or asks for it with a greater
//!   key; with a lesser key it gives the address up.
//! * **L3** nobody takes an address after an objection has reached it.
//! * **L6** no table outgrows its limit.
//!
//! I5 is in [`replies`](crate::replies).

use std::collections::BTreeMap;
use std::time::Duration;

use binld::engine::claims::{ClaimKey, StateName};
use binld::engine::status::Status;
use binld::limits::{CLIENTS_WAITING_MAX, MARKS_MAX};
use driver::Time;
use wire::query::{Opcode, Query};
use wire::{Content, GroupAddr};

use crate::link::Verdict;
use crate::program::Standing;

/// Exchanges older than this explain nothing any more: the longest clearing takes 3.6 s.
const EXCHANGES_KEPT: Duration = Duration::from_secs(30);

/// Which rules the boot servers play by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Ours.
    Ours,
    /// The source document to the letter: the database is looked up, pending claims are not defended and do not yield.
    SeedLiteral,
}

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Time,
    /// Which: I1, I5, L2…
    pub rule: &'static str,
    /// In words.
    pub text: String,
}

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
    asks: bool,
    /// Queries and echoes that did not arrive in time.
    losses: usize,
    /// An objection that was made and should have been heeded, or should have been made.
    broken: Option<String>,
}

/// The checks, and what they remember.
#[derive(Debug)]
pub struct Checks {
    rules: Rules,
    exchanges: BTreeMap<GroupAddr, Vec<Exchange>>,
    attempts: BTreeMap<(usize, ClaimKey), Attempt>,
    held: BTreeMap<(GroupAddr, usize), Content>,
    duplicates: BTreeMap<(GroupAddr, usize, usize), Time>,
    pruned_at: Time,
    /// Duplicates that losses explain.
    pub explained: u64,
    /// What did not hold.
    pub violations: Vec<Violation>,
}

impl Checks {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            exchanges: BTreeMap::new(),
            attempts: BTreeMap::new(),
            held: BTreeMap::new(),
            duplicates: BTreeMap::new(),
            pruned_at: Time::ZERO,
            explained: 0,
            violations: Vec::new(),
        }
    }

    /// Notes a rule that did not hold.
    pub fn fail(&mut self, at: Time, rule: &'static str, text: String) {
        self.violations.push(Violation { at, rule, text });
    }

    /// Contents held on that address, by host.
    pub fn held_on(&self, group: GroupAddr) -> impl Iterator<Item = (usize, &Content)> {
        let range = (group, 0)..=(group, usize::MAX);
        self.held.range(range).map(|((_, node), content)| (*node, content))
    }

    /// Whether losses were among what gave that host its claim there.
    #[must_use]
    pub fn had_losses(&self, node: usize, group: GroupAddr) -> bool {
        let mut of_node = self.attempts.iter().filter(|((owner, _), _)| *owner == node);
        of_node.any(|(_, attempt)| attempt.group == group && attempt.losses > 0)
    }

    /// A query or echo leaves `from` for `to`.
    pub fn on_sent(&mut self, now: Time, datagram: u64, from: usize, to: usize, bytes: &[u8]) {
        let Ok((opcode, query)) = Query::decode(bytes) else { return };
        if now.since(self.pruned_at) > EXCHANGES_KEPT {
            self.pruned_at = now;
            for exchanges in self.exchanges.values_mut() {
                exchanges.retain(|exchange| now.since(exchange.sent_at) < EXCHANGES_KEPT);
            }
        }
        let exchanges = self.exchanges.entry(query.group).or_default();
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
        let Some(exchanges) = self.exchanges.get_mut(&heard.query.group) else { return };
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
            let exchanges = self.exchanges.get_mut(&query.group).into_iter().flatten();
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
            (None, true) => {
                let text = format!("{name} echoed a query for {} that it may not object to", query.group);
                self.fail(now, "L2", text);
            }
            (Some(_), true) | (None, false) => {}
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
    pub fn after_step(&mut self, now: Time, node: usize, name: &str, status: &Status) {
        if status.marks.len() > MARKS_MAX || status.clients_waiting > CLIENTS_WAITING_MAX {
            self.fail(now, "L6", format!("a table of {name} outgrew its limit"));
        }
        for claim in &status.claims {
            let key = ClaimKey { content: claim.content.clone(), pinned: claim.pinned };
            let Some(group) = claim.group else {
                self.attempts.remove(&(node, key));
                continue;
            };
            let asks = claim.state == StateName::Clearing;
            let known = self.attempts.get(&(node, key.clone()));
            let goes_on = known.is_some_and(|it| it.group == group && (it.asks || !asks));
            if !goes_on {
                let attempt = Attempt { group, began_at: now, asks: true, losses: 0, broken: None };
                self.attempts.insert((node, key.clone()), attempt);
            }
            // One from before a restart is committed already: who keeps its address is settled by statements (Y4, Y7).
            let was_committed = asks && claim.stamp.is_some();
            if let Some(attempt) = self.attempts.get_mut(&(node, key.clone())).filter(|_| was_committed) {
                attempt.asks = false;
            }
            if !asks {
                self.commit(now, node, &key);
            }
        }
        let gone = |owner: usize, content: &Content, group: GroupAddr| {
            owner == node
                && !status.claims.iter().any(|claim| {
                    claim.state == StateName::Held && claim.group == Some(group) && claim.content == *content
                })
        };
        self.held.retain(|(group, owner), content| !gone(*owner, content, *group));
        for claim in status.claims.iter().filter(|claim| claim.state == StateName::Held) {
            if let Some(group) = claim.group
                && self.held.insert((group, node), claim.content.clone()).is_none()
            {
                self.on_held(now, node, group, &claim.content);
            }
        }
    }

    /// A boot server died: it hands nothing out.
    pub fn on_crash(&mut self, node: usize) {
        self.held.retain(|(_, owner), _| *owner != node);
        self.attempts.retain(|(owner, _), _| *owner != node);
    }

    /// The clearing is over: what became of its queries?
    fn commit(&mut self, now: Time, node: usize, key: &ClaimKey) {
        let Some(attempt) = self.attempts.get_mut(&(node, key.clone())).filter(|attempt| attempt.asks) else {
            return;
        };
        attempt.asks = false;
        let group = attempt.group;
        let exchanges = self.exchanges.get(&attempt.group).into_iter().flatten();
        let own = exchanges.filter(|exchange| {
            exchange.from == node && exchange.content == key.content && exchange.sent_at >= attempt.began_at
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
        if let Some(broken) = attempt.broken.clone().filter(|_| self.rules == Rules::Ours) {
            let text = format!("host {node} takes {group} for {}, though {broken}", key.content);
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
                let of_owner = self.attempts.iter().find(|((holder, key), attempt)| {
                    *holder == owner && key.content == *content && attempt.group == group
                });
                of_owner.map(|(_, attempt)| attempt.clone())
            });
            let losses: usize = attempts.iter().flatten().map(|attempt| attempt.losses).sum();
            let broken = attempts.iter().flatten().find_map(|attempt| attempt.broken.clone());
            if losses > 0 && broken.is_none() {
                self.explained += 1;
                self.duplicates.insert((group, node.min(other), node.max(other)), now);
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
                Standing::Firm | Standing::Pending => None,
            }
        })
    }
}

/// The order of keys: bytes 3–6 of the query, then 17 to the end.
fn content_order(content: &Content) -> ([u8; 4], usize, &[u8]) {
    let name = content.file.as_bytes();
    (content.server.octets(), name.len(), name)
}

/// Whether anything of a datagram arrives.
#[must_use]
pub fn arrives(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Arrives(_))
}
