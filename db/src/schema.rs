//! How a store file is opened: whose it is, which schema, with which settings.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use crate::{Kind, StoreError};

/// In `PRAGMA application_id`: "pxem". Tells our files from other databases.
const APPLICATION_ID: i64 = 0x7078_656d;

/// Number n at place n-1; in `PRAGMA user_version`.
const MIGRATIONS: [&str; 2] =
    [include_str!("../migrations/0001.sql"), include_str!("../migrations/0002.sql")];

/// The schema this program knows.
pub(crate) const VERSION: i64 = 2;

/// A reader holds the store for moments only: who waits longer has met something else.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens to write, makes what is missing, brings an older schema up to date.
pub(crate) fn open_writer(path: &Path, kind: Kind) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let fail = |error| StoreError::from_sqlite(path, error);
    let mut connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(fail)?;
    if Stage::of(path, &connection)? == Stage::Blank {
        // Nothing of a foreign or newer file has been touched so far.
        let mode = set_mode(&connection).map_err(fail)?;
        if mode != "wal" {
            let why = format!("the file system allows no write-ahead log, only `{mode}`");
            return Err(StoreError::Unwritable { path: path.to_owned(), why });
        }
    }
    prepare(path, &mut connection, kind)?;
    Ok(connection)
}

/// A store that dies with the process.
pub(crate) fn open_in_memory(kind: Kind) -> Result<Connection, StoreError> {
    let path = Path::new(":memory:");
    let mut connection =
        Connection::open_in_memory().map_err(|error| StoreError::from_sqlite(path, error))?;
    prepare(path, &mut connection, kind)?;
    Ok(connection)
}

/// Opens to read, whether or not a daemon writes.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let opened = open_plain(path).or_else(|error| {
        // Who may not write into the directory cannot make the log's index. Without a log there is no writer,
        // and nothing can change under us.
        if has_log(path) { Err(error) } else { open_immutable(path) }
    })?;
    match Stage::of(path, &opened)? {
        Stage::Blank => Err(StoreError::Foreign { path: path.to_owned() }),
        Stage::Schema(VERSION) => Ok(opened),
        Stage::Schema(found) => Err(StoreError::Older { path: path.to_owned(), found, known: VERSION }),
    }
}

fn open_plain(path: &Path) -> Result<Connection, StoreError> {
    let fail = |error| StoreError::from_sqlite(path, error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(fail)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(fail)?;
    pragma(&connection, "user_version").map_err(fail)?;
    Ok(connection)
}

fn open_immutable(path: &Path) -> Result<Connection, StoreError> {
    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02x}"));
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags).map_err(|error| StoreError::from_sqlite(path, error))
}

fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    Path::new(&log).exists()
}

/// What a file is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// An empty file, or a new one.
    Blank,
    /// A store of this schema.
    Schema(i64),
}

impl Stage {
    fn of(path: &Path, connection: &Connection) -> Result<Self, StoreError> {
        let read = || {
            let tables =
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
            Ok((pragma(connection, "application_id")?, pragma(connection, "user_version")?, tables))
        };
        let path = path.to_owned();
        match read().map_err(|error| StoreError::from_sqlite(&path, error))? {
            (0, 0, 0) => Ok(Self::Blank),
            (APPLICATION_ID, found, _) if found > VERSION => {
                Err(StoreError::Newer { path, found, known: VERSION })
            }
            (APPLICATION_ID, found, _) if found > 0 => Ok(Self::Schema(found)),
            _ => Err(StoreError::Foreign { path }),
        }
    }
}

fn set_mode(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
}

/// Settings and schema of a connection that may write.
fn prepare(path: &Path, connection: &mut Connection, kind: Kind) -> Result<(), StoreError> {
    let fail = |error| StoreError::from_sqlite(path, error);
    // FULL: the log is synced at each commit, so what was acknowledged survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
    let stage = Stage::of(path, connection)?;
    if stage != Stage::Blank {
        let found = kind_of(path, connection)?;
        if found != kind {
            return Err(StoreError::WrongKind { path: path.to_owned(), found, wanted: kind });
        }
    }
    migrate(connection, stage, kind).map_err(fail)?;
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fail)?;
    if verdict != "ok" {
        return Err(StoreError::Corrupt { path: path.to_owned(), what: verdict });
    }
    Ok(())
}

/// All missing steps in one transaction: a crash leaves the old schema or the new one.
fn migrate(connection: &mut Connection, stage: Stage, kind: Kind) -> rusqlite::Result<()> {
    let done = match stage {
        Stage::Schema(VERSION) => return Ok(()),
        Stage::Schema(found) => usize::try_from(found).unwrap_or(usize::MAX),
        Stage::Blank => 0,
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    if stage == Stage::Blank {
        transaction.execute("INSERT INTO server (one, kind) VALUES (1, ?)", params![kind.name()])?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Whose store it is.
pub(crate) fn kind_of(path: &Path, connection: &Connection) -> Result<Kind, StoreError> {
    let name: String = connection
        .query_row("SELECT kind FROM server", [], |row| row.get(0))
        .map_err(|error| StoreError::from_sqlite(path, error))?;
    Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| StoreError::Corrupt {
        path: path.to_owned(),
        what: format!("it belongs to an unknown daemon {name:?}"),
    })
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
