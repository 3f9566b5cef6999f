//! How a record travels: once to the link, once to each neighbour beyond it, and by lists to who lacks it (R004.10–R004.16).

use std::net::SocketAddrV4;

use driver::{Time, Wall};
use wire::control::Message;
use wire::flood::{Acked, FLOOD_ACKS_MAX, FLOOD_LEN_MAX, Flood, FloodAck, SYNC_ENTRIES_MAX, SyncList};
use wire::record::{Record, RecordKind, Uid};

use super::{Domain, News, Output};
use crate::limits::{LISTS_MAX, PUSHES_MAX};
use crate::records::Outcome;

impl Domain {
    pub(super) fn on_flood(&mut self, now: Time, wall: Wall, from: SocketAddrV4, flood: &Flood) {
        let (mut news, mut older, mut acked) = (Vec::new(), Vec::new(), Vec::new());
        for record in &flood.records {
            if record.uid.kind == RecordKind::Lowest {
                let useful = self.on_lowest(now, from, record);
                acked.push(Acked { uid: record.uid, snum: record.snum, useful });
                news.extend(useful.then(|| record.clone()));
                continue;
            }
            let outcome = self.records.on_record(now, wall, record);
            let useful = matches!(outcome, Outcome::News);
            acked.push(Acked { uid: record.uid, snum: record.snum, useful });
            match outcome {
                Outcome::News => {
                    self.out.push_back(Output::Tell(News::Changed(record.uid)));
                    self.on_member_record(now, record);
                    news.push(record.clone());
                }
                Outcome::Known => self.count("record", "known"),
                Outcome::Older(own) => older.push(own),
                Outcome::Disowned(own) => {
                    self.count("record", "disowned");
                    self.fresh.push(own);
                }
                Outcome::Twin => {
                    self.count("domain", "twin");
                    self.out.push_back(Output::Tell(News::Twin(from)));
                }
                Outcome::Refused(why) => self.count("dropped.record", why),
            }
        }
        let is_link = self.links.is_up(from);
        for acked in &acked {
            self.links.on_record(from, acked.useful);
        }
        if flood.wants_ack && is_link {
            for part in acked.chunks(FLOOD_ACKS_MAX) {
                let lazy = self.links.worth(from).is_some_and(|worth| worth.is_lazy);
                self.send(from, Message::FloodAck(FloodAck { lazy, acked: part.to_vec() }));
            }
        }
        // The sender has an old copy (R004.10); of a multicast copy everybody would tell it so, and its hello shows it.
        if is_link {
            self.push(now, from, &older);
        }
        self.pass_on(now, &news, Some(from));
    }

    /// To all who may not have it: the link, if it came from beyond, and all other neighbours.
    pub(super) fn pass_on(&mut self, now: Time, records: &[Record], from: Option<SocketAddrV4>) {
        if records.is_empty() {
            return;
        }
        if from.is_none_or(|from| self.links.is_up(from)) {
            for records in batches(records) {
                self.send(self.config.group, Message::Flood(Flood { wants_ack: false, records }));
            }
        }
        let eager = self.links.up().filter(|(_, worth)| !worth.is_lazy);
        let others: Vec<SocketAddrV4> = eager.map(|(it, _)| it.control).collect();
        for to in others.into_iter().filter(|to| Some(*to) != from) {
            self.push(now, to, records);
        }
    }

    /// To the lazy neighbours as well: it cannot wait, or cannot be seen in a digest.
    pub(super) fn push_to_lazy(&mut self, now: Time, records: &[Record]) {
        let lazy = self.links.up().filter(|(_, worth)| worth.is_lazy);
        let others: Vec<SocketAddrV4> = lazy.map(|(it, _)| it.control).collect();
        for to in others {
            self.push(now, to, records);
        }
    }

    pub(super) fn on_acks(&mut self, from: SocketAddrV4, ack: &FloodAck) {
        for acked in &ack.acked {
            if !self.links.on_ack(from, acked) {
                return self.count("dropped.domain", "needless_ack");
            }
        }
        if ack.lazy {
            self.links.on_lazy(from);
        }
    }

    /// To one: acknowledged, if it is a neighbour beyond the link.
    pub(super) fn push(&mut self, now: Time, to: SocketAddrV4, records: &[Record]) {
        let wants_ack = self.links.is_up(to);
        if wants_ack {
            for record in records {
                self.links.sent(now, to, record.uid, record.snum);
            }
        }
        for records in batches(records) {
            self.send(to, Message::Flood(Flood { wants_ack, records }));
        }
    }

    pub(super) fn resend(&mut self, now: Time, to: SocketAddrV4, uids: &[Uid]) {
        let mut copies = self.records.copies(now, uids);
        copies.extend(self.lowest.record(now).filter(|it| uids.contains(&it.uid)));
        for uid in uids.iter().filter(|uid| !copies.iter().any(|copy| copy.uid == **uid)) {
            self.links.on_ended(to, uid);
        }
        for records in batches(&copies) {
            self.send(to, Message::Flood(Flood { wants_ack: true, records }));
        }
    }

    pub(super) fn begin_exchange(&mut self, now: Time, to: SocketAddrV4) {
        self.count("domain", "exchange");
        self.send_lists(now, to, Uid::MIN, Uid::MAX, true);
    }

    /// What we have from one UID to another, in as many lists as it takes, but for [`LISTS_MAX`].
    fn send_lists(&mut self, now: Time, to: SocketAddrV4, first: Uid, last: Uid, wants_list: bool) {
        let mut from = Some(first);
        for _ in 0..LISTS_MAX {
            let Some(first) = from else { return };
            let mut entries = self.records.entries(now, first..=last, SYNC_ENTRIES_MAX);
            self.with_lowest(now, first, last, &mut entries, SYNC_ENTRIES_MAX);
            let is_full = entries.len() == SYNC_ENTRIES_MAX;
            let end = entries.last().map(|entry| entry.uid).filter(|_| is_full).unwrap_or(last);
            self.send(to, Message::SyncList(SyncList { wants_list, first, last: end, entries }));
            from = end.next().filter(|next| *next <= last && end < last);
        }
    }

    pub(super) fn on_list(&mut self, now: Time, from: SocketAddrV4, list: &SyncList) {
        self.count("domain", "list");
        let mut lacking = self.records.lacking(now, list.first..=list.last, &list.entries);
        let is_more = lacking.len() > PUSHES_MAX;
        lacking.truncate(PUSHES_MAX);
        self.push(now, from, &lacking);
        // Of what we lack we send our own list, so that the other pushes it; and of what was too much for once.
        let wants_lowest = self.on_lowest_listed(now, from, list);
        let wants = self.records.wants_any(&list.entries);
        if wants || wants_lowest || (is_more && list.wants_list) {
            self.send_lists(now, from, list.first, list.last, false);
        }
    }
}

/// As many together as a datagram carries, in order.
fn batches(records: &[Record]) -> Vec<Vec<Record>> {
    let mut batches: Vec<Vec<Record>> = Vec::new();
    let mut room = 0;
    for record in records {
        let len = record.encoded_len();
        match batches.last_mut() {
            Some(batch) if len <= room => {
                batch.push(record.clone());
                room -= len;
            }
            _ => {
                batches.push(vec![record.clone()]);
                room = FLOOD_LEN_MAX.saturating_sub(len);
            }
        }
    }
    batches
}
