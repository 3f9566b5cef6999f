//! Datagrams in a few words, for traces and transcripts.

use wire::configure::{NakReason, RequestRef};
use wire::control::{Envelope, MAGIC, Message};
use wire::query::Query;
use wire::record::{Age, Body, Record};
use wire::{GroupAddr, ServerId};

/// Whether that is a hello or an inquiry, which say nothing that a check or a reader looks at.
#[must_use]
pub fn is_hello(bytes: &[u8]) -> bool {
    const KIND_HELLO: u8 = 7;
    const KIND_INQUIRY: u8 = 22;
    bytes.starts_with(&MAGIC) && matches!(bytes.get(5), Some(&(KIND_HELLO | KIND_INQUIRY)))
}

/// Whether that is a list of records, or records.
#[must_use]
pub fn is_exchange(bytes: &[u8]) -> bool {
    const KIND_SYNC_LIST: u8 = 14;
    const KIND_FLOOD: u8 = 15;
    bytes.starts_with(&MAGIC) && matches!(bytes.get(5), Some(&(KIND_SYNC_LIST | KIND_FLOOD)))
}

/// What a datagram says.
#[must_use]
pub fn describe(bytes: &[u8]) -> String {
    if let Ok((opcode, query)) = Query::decode(bytes) {
        return format!("{opcode:?} {} {}", query.group, query.content);
    }
    match Envelope::decode(bytes) {
        Ok(envelope) => message(&envelope.message),
        Err(_) => format!("{} bytes", bytes.len()),
    }
}

fn place(group: Option<GroupAddr>) -> String {
    group.map_or_else(|| "plain TFTP".to_owned(), |group| group.to_string())
}

fn answered(request: &RequestRef) -> String {
    format!("#{} {}", request.serial.0, place(request.group))
}

/// The beginning of a name: enough to tell the servers of a test apart.
fn short(server: ServerId) -> String {
    server.to_string().chars().take(4).collect()
}

fn record(record: &Record) -> String {
    let what = match &record.body {
        Body::Member(it) => format!("member {} at {}", short(record.uid.owner), it.control),
        Body::Claim(it) => {
            let told = if it.configured { ", told" } else { "" };
            format!("claim of {} to {} for {}{told}", short(record.uid.owner), it.group, it.content)
        }
        Body::Reference(_) => format!("references at {}", short(record.uid.owner)),
        Body::Domain(_) => format!("roll of {}", short(record.uid.owner)),
        Body::Lowest(it) => format!("lowest id {}", short(*it)),
        Body::Responder(it) => {
            format!("responder {}: weight {}, {} shards", short(record.uid.owner), it.weight, it.shards.len())
        }
        Body::Neighbours(it) => {
            let others: Vec<String> = it.servers.iter().map(|server| short(*server)).collect();
            format!("neighbours of {}: {}", short(record.uid.owner), others.join(" "))
        }
        Body::Note(it) => format!("note of {}: {}: {}", it.author, it.about, it.words),
        Body::Contact(it) => format!("{} domain {} at {}", it.relation, it.name, it.control),
    };
    let gone = if record.age == Age::DELETED { " deleted" } else { "" };
    format!("[{what} #{}{gone}]", record.snum.counter)
}

fn message(message: &Message) -> String {
    match message {
        Message::Configure(it) => format!("Configure #{} {} {}", it.serial.0, place(it.group()), it.file),
        Message::Delete(it) => format!("Delete #{} {} {}", it.serial.0, it.group, it.file),
        Message::DeleteForDead(it) => {
            format!("Delete for the dead {} its #{} {} {}", it.dead, it.serial.0, it.group, it.file)
        }
        Message::Ack(it) => {
            format!("ACK {} {} ports {} {}", answered(&it.request), it.file, it.ports.client, it.ports.server)
        }
        Message::Nak(it) => {
            let why = match &it.reason {
                NakReason::InUse { file, .. } => format!("in use by {file}"),
                NakReason::NoSuchFile => "no such file".to_owned(),
                NakReason::TooLarge { size, .. } => format!("{size} bytes are too large"),
            };
            format!("NAK {} {}: {why}", answered(&it.request), it.file)
        }
        Message::Superseded(it) => {
            format!("superseded {}, known is #{}", answered(&it.request), it.known_serial.0)
        }
        Message::Hold(it) => {
            let answer = if it.is_answer { ", an answer" } else { "" };
            let used = if it.in_use { ", in use" } else { "" };
            format!("hold {} {} {:?} stamp {}{used}{answer}", it.group, it.content, it.state, it.stamp.millis)
        }
        Message::Hello(it) => format!("{it:?}"),
        Message::Connect(_) => "connect".to_owned(),
        Message::Welcome(_) => "welcome".to_owned(),
        Message::Refuse(it) => format!("refuse: {:?}", it.reason),
        Message::Disconnect(_) => "disconnect".to_owned(),
        Message::SyncList(it) => format!("sync list of {} records", it.entries.len()),
        Message::Flood(it) => {
            let records: Vec<String> = it.records.iter().map(record).collect();
            format!("flood {}", records.join(" "))
        }
        Message::ClearAsk(it) => format!("clear ask {} {}", it.group, it.content),
        Message::ClearAnswer(it) => format!("clear answer {} {:?}", it.group, it.verdict),
        Message::LoanAsk(it) => format!("loan ask {} {}", it.group, it.content),
        Message::LoanAnswer(it) => format!("loan answer {} {:?}", it.group, it.verdict),
        Message::Told(it) => format!("told {} at {} {} {}", it.mac, it.client, it.group, it.file),
        Message::Inquiry(it) => {
            let urgent = if it.urgent { ", urgent" } else { "" };
            format!("inquiry {}, {} heard{urgent}", it.count, it.heard.len())
        }
        Message::Declare(it) => format!("declare {} shards", it.shards.len()),
        Message::Further(it) => format!("in {}: {}", it.domain, self::message(&it.message)),
        Message::Revoke(it) => format!("revoke {} shards of {}", it.shards.len(), short(it.revoked)),
        Message::FloodAck(it) => format!("flood ack of {} records", it.acked.len()),
    }
}
