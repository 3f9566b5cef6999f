//! Rows to columns and back.

use std::net::{Ipv4Addr, SocketAddrV4};

use rusqlite::{Connection, Row, params};
use wire::configure::Ports;
use wire::hold::HoldState;
use wire::pxe::BootItem;
use wire::record::Claim;
use wire::{BootEpoch, Content, FileName, GroupAddr, Layer, Serial, ServerId, ServerType, Stamp};

use crate::Kind;
use crate::row::{
    Change, ClaimRow, ClaimState, LegacyRow, ListenedRow, LoanRow, MarkRow, MemberRow, ReferenceRow,
    ReplicaRow, RestRow, RollRow, RollState, Rows, SerialRow, hold_name,
};

/// Carries out one change inside a transaction.
pub(crate) fn write(to: &Connection, change: &Change) -> rusqlite::Result<()> {
    let key = |group: &GroupAddr| group.to_string();
    match change {
        Change::PutClaim(row) => put_claim(to, row),
        Change::PutReference(row) => put_reference(to, row),
        Change::PutMark(row) => {
            let columns = params![key(&row.group), bits(row.until_ms), row.why];
            execute(to, "INSERT OR REPLACE INTO mark (address, until_ms, why) VALUES (?, ?, ?)", columns)
        }
        Change::PutSerial(row) => {
            let columns = params![key(&row.group), row.binld.0, row.epoch.0, row.serial.0];
            let sql = "INSERT OR REPLACE INTO serial (address, binld, epoch, serial) VALUES (?, ?, ?, ?)";
            execute(to, sql, columns)
        }
        Change::PutRest(row) => put_rest(to, row),
        Change::SetRoll(rows) => set_roll(to, rows),
        Change::PutLoan(row) => put_loan(to, row),
        Change::PutReplica(row) => put_replica(to, row),
        Change::PutMember(row) => put_member(to, row),
        Change::PutLegacy(row) => {
            let columns = params![row.address.to_string(), bits(row.heard_ms)];
            execute(to, "INSERT OR REPLACE INTO legacy (address, heard_ms) VALUES (?, ?)", columns)
        }
        Change::DeleteClaim { group, owner } => {
            execute(to, "DELETE FROM claim WHERE address = ? AND owner = ?", params![key(group), owner.0])
        }
        Change::DeleteReference { group, binld } => {
            execute(to, "DELETE FROM reference WHERE address = ? AND binld = ?", params![key(group), binld.0])
        }
        Change::DeleteSerial { group, binld } => {
            execute(to, "DELETE FROM serial WHERE address = ? AND binld = ?", params![key(group), binld.0])
        }
        Change::DeleteMark(group) => execute(to, "DELETE FROM mark WHERE address = ?", params![key(group)]),
        Change::DeleteRest(group) => execute(to, "DELETE FROM rest WHERE address = ?", params![key(group)]),
        Change::DeleteLoan(group) => execute(to, "DELETE FROM loan WHERE address = ?", params![key(group)]),
        Change::DeleteReplica { owner, number } => {
            execute(to, "DELETE FROM replica WHERE owner = ? AND number = ?", params![owner.0, bits(*number)])
        }
        Change::DeleteMember(server) => execute(to, "DELETE FROM member WHERE id = ?", params![server.0]),
        Change::DeleteLegacy(server) => {
            execute(to, "DELETE FROM legacy WHERE address = ?", params![server.to_string()])
        }
        Change::SetListened(row) => {
            let sql = "INSERT OR REPLACE INTO listened (one, millis, host_boot) VALUES (1, ?, ?)";
            execute(to, sql, params![bits(row.millis), row.host_boot])
        }
        Change::Alive { wall_ms } => execute(to, "UPDATE server SET alive_ms = ?", params![bits(*wall_ms)]),
    }
}

fn put_claim(to: &Connection, row: &ClaimRow) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO claim (address, owner, mtftp_server, file, client_port, server_port, \
               server_type, layer, boot_item, pinned, state, stamp_ms, stamp_sender, since_ms) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let columns = params![
        row.group.to_string(),
        row.owner.0,
        row.content.server.to_string(),
        row.content.file.as_bytes(),
        row.client_port,
        row.server_port,
        row.server_type.0,
        row.layer.0,
        row.item,
        row.pinned,
        row.state.name(),
        bits(row.stamp.millis),
        row.stamp.sender.0,
        bits(row.since_ms),
    ];
    execute(to, sql, columns)
}

fn put_reference(to: &Connection, row: &ReferenceRow) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO reference (address, binld, binld_address, file, client_port, server_port, \
               epoch, serial, stamp_ms, stamp_sender, since_ms, renewed_ms) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let columns = params![
        row.group.to_string(),
        row.binld.0,
        row.address.to_string(),
        row.file.as_bytes(),
        row.client_port,
        row.server_port,
        row.epoch.0,
        row.serial.0,
        bits(row.stamp.millis),
        row.stamp.sender.0,
        bits(row.since_ms),
        bits(row.renewed_ms),
    ];
    execute(to, sql, columns)
}

fn put_rest(to: &Connection, row: &RestRow) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO rest (address, mtftp_server, file, stamp_ms, stamp_sender, since_ms) \
               VALUES (?, ?, ?, ?, ?, ?)";
    let columns = params![
        row.group.to_string(),
        row.server.map(|server| server.to_string()),
        row.file.as_bytes(),
        bits(row.stamp.millis),
        row.stamp.sender.0,
        bits(row.since_ms),
    ];
    execute(to, sql, columns)
}

fn set_roll(to: &Connection, rows: &[RollRow]) -> rusqlite::Result<()> {
    execute(to, "DELETE FROM roll", [])?;
    for row in rows {
        let members: Vec<u8> = row.members.iter().flat_map(|member| member.0).collect();
        let (origins, former) = (row.origins.as_flattened(), row.former.as_flattened());
        let columns = params![row.version, row.digest, row.state.name(), members, origins, former];
        let sql =
            "INSERT INTO roll (version, digest, state, members, origins, former) VALUES (?, ?, ?, ?, ?, ?)";
        execute(to, sql, columns)?;
    }
    Ok(())
}

fn put_loan(to: &Connection, row: &LoanRow) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO loan (address, borrower, mtftp_server, file, since_ms) \
               VALUES (?, ?, ?, ?, ?)";
    let columns = params![
        row.group.to_string(),
        row.borrower.0,
        row.content.server.to_string(),
        row.content.file.as_bytes(),
        bits(row.since_ms),
    ];
    execute(to, sql, columns)
}

fn put_replica(to: &Connection, row: &ReplicaRow) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO replica (address, owner, number, mtftp_server, file, client_port, server_port, \
               server_type, layer, pinned, configured, state, stamp_ms, stamp_sender, first_ms, changed_ms) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let Claim { group, content, ports, boot_item, stamp, state, pinned, configured } = &row.claim;
    let columns = params![
        group.to_string(),
        row.owner.0,
        bits(row.number),
        content.server.to_string(),
        content.file.as_bytes(),
        ports.client,
        ports.server,
        boot_item.server_type.0,
        boot_item.layer.0,
        pinned,
        configured,
        hold_name(*state),
        bits(stamp.millis),
        stamp.sender.0,
        bits(row.first_ms),
        bits(row.changed_ms),
    ];
    execute(to, sql, columns)
}

fn put_member(to: &Connection, row: &MemberRow) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO member (id, kind, address, control_port, unreachable_ms) \
               VALUES (?, ?, ?, ?, ?)";
    let (kind, unreachable) = (row.kind.map(Kind::name), row.unreachable_ms.map(bits));
    let columns = params![row.server.0, kind, row.control.ip().to_string(), row.control.port(), unreachable];
    execute(to, sql, columns)
}

fn execute(to: &Connection, sql: &str, columns: impl rusqlite::Params) -> rusqlite::Result<()> {
    to.prepare_cached(sql)?.execute(columns).map(drop)
}

/// 64 bits as SQLite keeps them: a stamp that a hostile peer pushed past 2⁶³ must come back as it was.
fn bits(value: u64) -> i64 {
    value.cast_signed()
}

/// All rows that make sense, sorted, and a sentence about each that does not.
pub(crate) fn read(from: &Connection) -> rusqlite::Result<(Rows, Vec<String>)> {
    let mut wrong = Vec::new();
    let mut rows = Rows {
        claims: table(from, "claim", claim, &mut wrong)?,
        marks: table(from, "mark", mark, &mut wrong)?,
        references: table(from, "reference", reference, &mut wrong)?,
        serials: table(from, "serial", serial, &mut wrong)?,
        rests: table(from, "rest", rest, &mut wrong)?,
        roll: table(from, "roll", roll, &mut wrong)?,
        loans: table(from, "loan", loan, &mut wrong)?,
        replicas: table(from, "replica", replica, &mut wrong)?,
        members: table(from, "member", member, &mut wrong)?,
        legacy: table(from, "legacy", legacy, &mut wrong)?,
        listened: table(from, "listened", listened, &mut wrong)?.pop(),
    };
    rows.sort();
    Ok((rows, wrong))
}

/// Why a row makes no sense.
type Nonsense = String;

fn table<T>(
    from: &Connection,
    name: &str,
    decode: fn(&Row<'_>) -> Result<T, Nonsense>,
    wrong: &mut Vec<String>,
) -> rusqlite::Result<Vec<T>> {
    let key = match name {
        "roll" => "version",
        "listened" => "one",
        _ => "address",
    };
    let mut statement = from.prepare(&format!("SELECT * FROM {name} ORDER BY {key}"))?;
    let mut found = statement.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        match decode(row) {
            Ok(row) => rows.push(row),
            Err(why) => {
                let which =
                    column::<String>(row, key).or_else(|_| Ok::<_, Nonsense>(number(row, key)?.to_string()));
                wrong.push(format!("{name} of {}: {why}", which.unwrap_or_default().escape_debug()));
            }
        }
    }
    Ok(rows)
}

fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, name: &str) -> Result<T, Nonsense> {
    row.get(name).map_err(|error| format!("{name}: {error}"))
}

fn group(row: &Row<'_>) -> Result<GroupAddr, Nonsense> {
    column::<String>(row, "address")?.parse()
}

fn ip(row: &Row<'_>, name: &str) -> Result<Ipv4Addr, Nonsense> {
    let text: String = column(row, name)?;
    text.parse().map_err(|_| format!("{name}: {text:?} is not an IPv4 address"))
}

fn file(row: &Row<'_>) -> Result<FileName, Nonsense> {
    let bytes: Vec<u8> = column(row, "file")?;
    FileName::new(&bytes).ok_or_else(|| format!("file: \"{}\" is not a file name", bytes.escape_ascii()))
}

fn stamp(row: &Row<'_>) -> Result<Stamp, Nonsense> {
    Ok(Stamp { millis: number(row, "stamp_ms")?, sender: ServerId(column(row, "stamp_sender")?) })
}

fn number(row: &Row<'_>, name: &str) -> Result<u64, Nonsense> {
    Ok(column::<i64>(row, name)?.cast_unsigned())
}

fn claim(row: &Row<'_>) -> Result<ClaimRow, Nonsense> {
    let state: String = column(row, "state")?;
    let known = ClaimState::ALL.into_iter().find(|known| known.name() == state);
    Ok(ClaimRow {
        group: group(row)?,
        content: Content { server: ip(row, "mtftp_server")?, file: file(row)? },
        client_port: column(row, "client_port")?,
        server_port: column(row, "server_port")?,
        server_type: ServerType(column(row, "server_type")?),
        layer: Layer(column(row, "layer")?),
        item: column(row, "boot_item")?,
        pinned: column(row, "pinned")?,
        state: known.ok_or_else(|| format!("state: {state:?} is unknown"))?,
        stamp: stamp(row)?,
        owner: ServerId(column(row, "owner")?),
        since_ms: number(row, "since_ms")?,
    })
}

fn mark(row: &Row<'_>) -> Result<MarkRow, Nonsense> {
    Ok(MarkRow { group: group(row)?, until_ms: number(row, "until_ms")?, why: column(row, "why")? })
}

fn reference(row: &Row<'_>) -> Result<ReferenceRow, Nonsense> {
    Ok(ReferenceRow {
        group: group(row)?,
        file: file(row)?,
        client_port: column(row, "client_port")?,
        server_port: column(row, "server_port")?,
        binld: ServerId(column(row, "binld")?),
        address: ip(row, "binld_address")?,
        epoch: BootEpoch(column(row, "epoch")?),
        serial: Serial(column(row, "serial")?),
        stamp: stamp(row)?,
        since_ms: number(row, "since_ms")?,
        renewed_ms: number(row, "renewed_ms")?,
    })
}

fn serial(row: &Row<'_>) -> Result<SerialRow, Nonsense> {
    Ok(SerialRow {
        group: group(row)?,
        binld: ServerId(column(row, "binld")?),
        epoch: BootEpoch(column(row, "epoch")?),
        serial: Serial(column(row, "serial")?),
    })
}

fn rest(row: &Row<'_>) -> Result<RestRow, Nonsense> {
    let named = column::<Option<String>>(row, "mtftp_server")?.is_some();
    Ok(RestRow {
        group: group(row)?,
        server: if named { Some(ip(row, "mtftp_server")?) } else { None },
        file: file(row)?,
        stamp: stamp(row)?,
        since_ms: number(row, "since_ms")?,
    })
}

fn roll(row: &Row<'_>) -> Result<RollRow, Nonsense> {
    let state: String = column(row, "state")?;
    let known = RollState::ALL.into_iter().find(|known| known.name() == state);
    Ok(RollRow {
        version: column(row, "version")?,
        digest: column(row, "digest")?,
        state: known.ok_or_else(|| format!("state: {state:?} is unknown"))?,
        members: sixteens(row, "members")?.into_iter().map(ServerId).collect(),
        origins: sixteens(row, "origins")?,
        former: sixteens(row, "former")?,
    })
}

fn sixteens(row: &Row<'_>, name: &str) -> Result<Vec<[u8; 16]>, Nonsense> {
    let bytes: Vec<u8> = column(row, name)?;
    match bytes.as_chunks() {
        (all, []) => Ok(all.to_vec()),
        (_, _) => Err(format!("{name}: {} bytes are no list of ids", bytes.len())),
    }
}

fn loan(row: &Row<'_>) -> Result<LoanRow, Nonsense> {
    Ok(LoanRow {
        group: group(row)?,
        borrower: ServerId(column(row, "borrower")?),
        content: Content { server: ip(row, "mtftp_server")?, file: file(row)? },
        since_ms: number(row, "since_ms")?,
    })
}

fn replica(row: &Row<'_>) -> Result<ReplicaRow, Nonsense> {
    let state: String = column(row, "state")?;
    let known = [HoldState::Committed, HoldState::Draining, HoldState::Resting];
    let known = known.into_iter().find(|known| hold_name(*known) == state);
    Ok(ReplicaRow {
        owner: ServerId(column(row, "owner")?),
        number: number(row, "number")?,
        claim: Claim {
            group: group(row)?,
            content: Content { server: ip(row, "mtftp_server")?, file: file(row)? },
            ports: Ports { client: column(row, "client_port")?, server: column(row, "server_port")? },
            boot_item: BootItem {
                server_type: ServerType(column(row, "server_type")?),
                layer: Layer(column(row, "layer")?),
            },
            stamp: stamp(row)?,
            state: known.ok_or_else(|| format!("state: {state:?} is unknown"))?,
            pinned: column(row, "pinned")?,
            configured: column(row, "configured")?,
        },
        first_ms: number(row, "first_ms")?,
        changed_ms: number(row, "changed_ms")?,
    })
}

fn member(row: &Row<'_>) -> Result<MemberRow, Nonsense> {
    let kind: Option<String> = column(row, "kind")?;
    let known = |name: &String| Kind::ALL.into_iter().find(|kind| kind.name() == name);
    Ok(MemberRow {
        server: ServerId(column(row, "id")?),
        kind: match &kind {
            Some(name) => Some(known(name).ok_or_else(|| format!("kind: {name:?} is unknown"))?),
            None => None,
        },
        control: SocketAddrV4::new(ip(row, "address")?, column(row, "control_port")?),
        unreachable_ms: column::<Option<i64>>(row, "unreachable_ms")?.map(i64::cast_unsigned),
    })
}

fn legacy(row: &Row<'_>) -> Result<LegacyRow, Nonsense> {
    Ok(LegacyRow { address: ip(row, "address")?, heard_ms: number(row, "heard_ms")? })
}

fn listened(row: &Row<'_>) -> Result<ListenedRow, Nonsense> {
    Ok(ListenedRow { millis: number(row, "millis")?, host_boot: column(row, "host_boot")? })
}
