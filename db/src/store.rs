//! A store: opened, told changes, read back.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior, params};
use wire::{BootEpoch, ServerId};

use crate::row::{Change, Rows};
use crate::{StoreError, check, columns, schema};

/// Whose store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A BINLD's.
    Binld,
    /// An MTFTP server's.
    Mtftpd,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Binld, Self::Mtftpd];

    /// The name of the daemon.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binld => "binld",
            Self::Mtftpd => "mtftpd",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a daemon learns at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Who we are, for ever.
    pub server: ServerId,
    /// Greater than at any former start.
    pub epoch: BootEpoch,
    /// When the former process was last known alive: wall clock, milliseconds; 0 = never.
    pub last_alive_ms: u64,
}

/// What a store says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose it is.
    pub kind: Kind,
    /// Its server; `None` before the first start.
    pub server: Option<ServerId>,
    /// The epoch of the last start; 0 before the first.
    pub epoch: BootEpoch,
    /// When its daemon was last known alive: wall clock, milliseconds; 0 = never.
    pub last_alive_ms: u64,
    /// Its schema.
    pub schema: i64,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Connection,
    /// Keeps other writers out while it is open. Not the database file itself: closing a second descriptor of that
    /// would drop SQLite's own locks.
    _lock: Option<File>,
}

impl Store {
    /// Opens the store at `path` to write; makes it if there is none; brings an older schema up to date. The lock
    /// lies beside it as `<path>.lock` and stays there.
    ///
    /// # Errors
    /// If another process writes it, if it is damaged, newer, the other daemon's or none of ours, or if the system
    /// refuses. A store that was there is unchanged then.
    pub fn open(path: &Path, kind: Kind) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let connection = schema::open_writer(path, kind)?;
        Ok(Self { path: path.to_owned(), connection, _lock: Some(lock) })
    }

    /// A store that dies with the process: for the simulator and tests.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn in_memory(kind: Kind) -> Result<Self, StoreError> {
        let connection = schema::open_in_memory(kind)?;
        Ok(Self { path: ":memory:".into(), connection, _lock: None })
    }

    /// Opens the store at `path` to read, whether its daemon runs or not, whichever daemon it belongs to.
    ///
    /// # Errors
    /// If there is none, if it is none of ours or of another schema, or if the system refuses. It is never changed.
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        let connection = schema::open_reader(path)?;
        Ok(Self { path: path.to_owned(), connection, _lock: None })
    }

    /// Starts a new boot epoch: max(stored + 1, seconds of the wall clock). `fresh_id` becomes our name if the store
    /// has none yet. Durable when it returns. A wall clock past the year 2106 is not believed.
    ///
    /// # Errors
    /// If it cannot be written; the store is unchanged then.
    pub fn boot(&mut self, wall_ms: u64, fresh_id: ServerId) -> Result<Boot, StoreError> {
        let header = self.header()?;
        let server = header.server.unwrap_or(fresh_id);
        let seconds = u32::try_from(wall_ms / 1000).unwrap_or(0);
        let epoch = BootEpoch(header.epoch.0.saturating_add(1).max(seconds));
        self.connection
            .execute("UPDATE server SET id = ?, boot_epoch = ?", params![server.0, epoch.0])
            .map_err(|error| self.sorted(error))?;
        Ok(Boot { server, epoch, last_alive_ms: header.last_alive_ms })
    }

    /// What the store says about itself.
    ///
    /// # Errors
    /// If it cannot be read; nothing is changed.
    pub fn header(&self) -> Result<Header, StoreError> {
        let kind = schema::kind_of(&self.path, &self.connection)?;
        self.connection
            .query_row("SELECT id, boot_epoch, alive_ms FROM server", [], |row| {
                Ok(Header {
                    kind,
                    server: row.get::<_, Option<_>>(0)?.map(ServerId),
                    epoch: BootEpoch(row.get(1)?),
                    last_alive_ms: row.get::<_, i64>(2)?.cast_unsigned(),
                    schema: schema::VERSION,
                })
            })
            .map_err(|error| self.sorted(error))
    }

    /// Everything in it, sorted.
    ///
    /// # Errors
    /// If it cannot be read, or if a record makes no sense; nothing is changed.
    pub fn load(&self) -> Result<Rows, StoreError> {
        // One transaction: all tables as they were at one moment.
        let moment = self.connection.unchecked_transaction().map_err(|error| self.sorted(error))?;
        let (rows, wrong) = columns::read(&moment).map_err(|error| self.sorted(error))?;
        match wrong.into_iter().next() {
            Some(what) => Err(StoreError::Corrupt { path: self.path.clone(), what }),
            None => Ok(rows),
        }
    }

    /// Writes changes, in order, in one transaction: durable when it returns.
    ///
    /// # Errors
    /// If they cannot be written: none of them is then.
    pub fn apply(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let path = &self.path;
        let fail = |error| StoreError::from_sqlite(path, error);
        let begin = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(begin).map_err(fail)?;
        for change in changes {
            columns::write(&transaction, change).map_err(fail)?;
        }
        transaction.commit().map_err(fail)
    }

    /// Verifies the file and every record in it; a sentence about each thing that is wrong.
    ///
    /// # Errors
    /// If it cannot be read at all; nothing is changed.
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        let header = self.header()?;
        let moment = self.connection.unchecked_transaction().map_err(|error| self.sorted(error))?;
        check::check(&header, &moment).map_err(|error| self.sorted(error))
    }

    fn sorted(&self, error: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(&self.path, error)
    }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let unwritable =
        |error: std::io::Error| StoreError::Unwritable { path: path.to_owned(), why: error.to_string() };
    if fs::metadata(path).is_ok_and(|found| found.permissions().readonly()) {
        let why = "the file may only be read".to_owned();
        return Err(StoreError::Unwritable { path: path.to_owned(), why });
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(beside).map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(unwritable(error)),
    }
}

#[cfg(test)]
mod tests;
