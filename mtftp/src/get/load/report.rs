//! What became of all clients, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::super::cli::Load;
use super::super::common::Common;
use super::super::report::{cause, hex, name};
use super::super::sink::Hash;
use super::{Ended, Fault};
use crate::client::discovery::Found;
use crate::client::{Counts, Failure};
use crate::limits::{REQUESTS_PER_SECOND, TRANSFERS_PER_SOURCE_MAX};

/// How many clients, by what is said of them.
type Groups = BTreeMap<String, usize>;

pub(super) struct Report<'a> {
    found: &'a Found,
    waits: u32,
    clients: u16,
    addresses: usize,
    /// From the first start to the last end.
    time: Duration,
    by: Groups,
    fall_back_causes: Groups,
    errors: Groups,
    /// Of those that have the file, in order.
    times: Vec<Duration>,
    /// Of all.
    sum: Counts,
    /// Bytes of the file.
    len: u64,
    hash: Option<Hash>,
    hint: Option<String>,
    /// The first byte that somebody received otherwise than others.
    differs_at: Option<usize>,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        found: &'a Found,
        waits: u32,
        load: &Load,
        addresses: usize,
        time: Duration,
        ended: &[Ended],
        common: &Common,
    ) -> Self {
        let len = ended.iter().find(|client| client.outcome.is_ok()).map_or(0, |client| client.len);
        let hash = common.hash(len).filter(|_| ended.iter().any(|client| client.outcome.is_ok()));
        let is_wrong = |hash: Hash| load.sha256.is_some_and(|wanted| wanted != hash);
        let mut report = Self {
            found,
            waits,
            clients: load.clients,
            addresses,
            time,
            by: Groups::new(),
            fall_back_causes: Groups::new(),
            errors: Groups::new(),
            times: Vec::new(),
            sum: Counts::default(),
            len,
            hash,
            hint: None,
            differs_at: None,
        };
        for client in ended {
            report.add(client, hash.is_some_and(is_wrong));
        }
        report.times.sort();
        report.hint = report.hint(ended);
        report
    }

    fn add(&mut self, client: &Ended, is_other_file: bool) {
        let Counts { bytes, multicast_blocks, unicast_blocks, needless_blocks, .. } = client.counts;
        let Counts { acks, asked_again, master, .. } = client.counts;
        self.sum.bytes += bytes;
        self.sum.multicast_blocks += multicast_blocks;
        self.sum.unicast_blocks += unicast_blocks;
        self.sum.needless_blocks += needless_blocks;
        self.sum.acks += acks;
        self.sum.asked_again += asked_again;
        self.sum.master += master;
        let error = match &client.outcome {
            Ok(_) if client.len != self.len => {
                format!("it has {} bytes, others {}", client.len, self.len)
            }
            Ok(_) if is_other_file => "the file is not that of --sha256".to_owned(),
            Ok(source) => {
                *self.by.entry(name(*source).to_owned()).or_default() += 1;
                if let Some(cause) = cause(*source) {
                    *self.fall_back_causes.entry(cause).or_default() += 1;
                }
                self.times.push(client.time);
                return;
            }
            // How far each had come is too much to tell.
            Err(Fault::Failure(Failure::Silence(standing))) if standing.heard.is_some() => {
                "the server fell silent".to_owned()
            }
            Err(Fault::Failure(Failure::TimeOver(standing))) if standing.heard.is_some() => {
                "the time was over in mid-transfer".to_owned()
            }
            Err(Fault::Failure(failure)) => failure.to_string(),
            Err(Fault::Differs(place)) => {
                self.differs_at = Some(self.differs_at.map_or(*place, |first| first.min(*place)));
                "what it received is not what others did".to_owned()
            }
            Err(Fault::NotStarted) => "the time was over before it started".to_owned(),
        };
        *self.errors.entry(error).or_default() += 1;
    }

    /// Why the server may have taken no more of them.
    fn hint(&self, ended: &[Ended]) -> Option<String> {
        let unheard = |client: &&Ended| match &client.outcome {
            Err(Fault::Failure(Failure::Silence(standing) | Failure::TimeOver(standing))) => {
                standing.heard.is_none()
            }
            Err(Fault::Failure(Failure::Error(..) | Failure::Protocol(_) | Failure::NoMulticast(_)))
            | Err(Fault::Differs(_) | Fault::NotStarted)
            | Ok(_) => false,
        };
        let count = ended.iter().filter(unheard).count();
        let of_each = usize::from(self.clients).div_ceil(self.addresses);
        (count > 0 && of_each > TRANSFERS_PER_SOURCE_MAX).then(|| {
            format!(
                "{count} were never answered: there were up to {of_each} clients on one address, and mtftpd takes \
                 {TRANSFERS_PER_SOURCE_MAX} transfers and {REQUESTS_PER_SECOND} requests a second of one; give them \
                 more addresses by --from"
            )
        })
    }

    /// Whether all have the file.
    pub(super) fn is_right(&self) -> bool {
        self.times.len() == usize::from(self.clients)
    }

    /// To standard output.
    ///
    /// # Errors
    /// If nobody takes it.
    pub(super) fn tell(&self, json: bool) -> anyhow::Result<()> {
        let text = if json { self.json() } else { self.text() };
        std::io::stdout().write_all(text.as_bytes()).context("cannot tell the result")
    }

    /// The time within which that share of the clients that have the file had it.
    fn within(&self, percent: usize) -> Option<Duration> {
        let place = (self.times.len() * percent).div_ceil(100).saturating_sub(1);
        self.times.get(place).copied()
    }

    fn text(&self) -> String {
        let (file, sum, done) = (&self.found.file, &self.sum, self.times.len());
        let of = usize::from(self.clients);
        let mut text = format!(
            "{file}: {done} of {of} clients have it, from {} addresses, in {:.3} s\n",
            self.addresses,
            self.time.as_secs_f64()
        );
        // Writing to a string cannot fail.
        let mut line = |what: &str, rest: String| {
            let _ = writeln!(text, "  {what:<9} {rest}");
        };
        for (source, count) in &self.by {
            line("by", format!("{source}: {count}"));
        }
        for (cause, count) in &self.fall_back_causes {
            line("fell back", format!("{count}, as {cause}"));
        }
        for (error, count) in &self.errors {
            line("failed", format!("{count}: {error}"));
        }
        let times = [0, 50, 99, 100].map(|percent| self.within(percent).unwrap_or_default().as_secs_f64());
        let [min, median, p99, max] = times;
        line("time", format!("min {min:.3} s, median {median:.3} s, p99 {p99:.3} s, max {max:.3} s"));
        line(
            "blocks",
            format!(
                "{} by multicast, {} by unicast, {} of them not needed; {} packets sent again",
                sum.multicast_blocks, sum.unicast_blocks, sum.needless_blocks, sum.asked_again
            ),
        );
        let hash = self.hash.as_ref().map_or("none".to_owned(), hex);
        line("file", format!("{} bytes, SHA-256 {hash}", self.len));
        if let Some(place) = self.differs_at {
            line("differ", format!("from byte {place} on"));
        }
        if let Some(hint) = &self.hint {
            line("note", hint.clone());
        }
        text
    }

    fn json(&self) -> String {
        let seconds = |percent| self.within(percent).map(|time| time.as_secs_f64());
        let sum = &self.sum;
        let object = json!({
            "file": self.found.file.to_string(),
            "server": self.found.file_server.to_string(),
            "boot_server": self.found.boot_server.to_string(),
            "wait_packets": self.waits,
            "clients": self.clients,
            "addresses": self.addresses,
            "completed": self.times.len(),
            "failed": usize::from(self.clients) - self.times.len(),
            "by": self.by,
            "fall_back_causes": self.fall_back_causes,
            "errors": self.errors,
            "differs_at": self.differs_at,
            "hint": self.hint,
            "seconds": self.time.as_secs_f64(),
            "seconds_min": seconds(0),
            "seconds_median": seconds(50),
            "seconds_p99": seconds(99),
            "seconds_max": seconds(100),
            "bytes": sum.bytes,
            "file_bytes": self.len,
            "sha256": self.hash.as_ref().map(hex),
            "multicast_blocks": sum.multicast_blocks,
            "unicast_blocks": sum.unicast_blocks,
            "needless_blocks": sum.needless_blocks,
            "acks": sum.acks,
            "asked_again": sum.asked_again,
            "times_master": sum.master,
        });
        format!("{object}\n")
    }
}
