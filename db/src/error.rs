//! What can go wrong with a store.

use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};
use thiserror::Error;

use crate::Kind;

/// Why a store could not be opened, read or written. Whatever the variant, a failed [`crate::Store::apply`] or
/// [`crate::Store::boot`] has changed nothing that a reader sees, and a failed open has changed nothing at all,
/// except that an empty store may have been made.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is no file. State unchanged.
    #[error("{}: there is no such store; a daemon makes it at its first start", path.display())]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// The file is a database, but none of ours. State unchanged.
    #[error("{}: not a store of pxemc: name another file, or move this one away", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
    },
    /// The store belongs to the other daemon. State unchanged.
    #[error("{}: this is the store of {found}, not of {wanted}: name another file", path.display())]
    WrongKind {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        found: Kind,
        /// Whose it should be.
        wanted: Kind,
    },
    /// The store was written by a newer pxemc. State unchanged.
    #[error(
        "{}: the store has schema {found}, this program knows up to {known}: install the newer pxemc that wrote \
         it, or move the store away to start empty",
        path.display()
    )]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The store is of an older schema and may not be written now. State unchanged.
    #[error("{}: the store has schema {found}, older than {known}: start its daemon once", path.display())]
    Older {
        /// Where.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Another process has it open to write, or holds it for too long. State unchanged.
    #[error("{}: another process has this store: one store per daemon", path.display())]
    Locked {
        /// Where.
        path: PathBuf,
    },
    /// The file or its directory may not be written, or read. State unchanged.
    #[error("{}: cannot be opened or written ({why}): its directory must exist and be writable", path.display())]
    Unwritable {
        /// Where.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// No space is left. State unchanged: what was to be written is not there.
    #[error(
        "{}: no space is left on the device: make some; a daemon that runs goes on by itself then",
        path.display()
    )]
    Full {
        /// Where.
        path: PathBuf,
    },
    /// The file is damaged, or a record makes no sense. State unchanged.
    #[error(
        "{}: the store is damaged ({what}): see `pxemc-db check`; restore a copy, or move it away to start empty",
        path.display()
    )]
    Corrupt {
        /// Where.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The device failed, or SQLite did in a way that is our bug. No reader sees a change; whether the device kept
    /// a part of it shows when the store is opened again.
    #[error("{}: the store failed: {source}", path.display())]
    Failed {
        /// Where.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// Sorts an error of SQLite.
    pub(crate) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let code = source.sqlite_error_code();
        let is = |codes: &[ErrorCode]| code.is_some_and(|code| codes.contains(&code));
        // No room for the index of the log is an I/O error to SQLite.
        let no_index =
            source.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
        if is(&[ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase]) {
            Self::Corrupt { path, what: source.to_string() }
        } else if no_index || is(&[ErrorCode::DiskFull]) {
            Self::Full { path }
        } else if is(&[ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked]) {
            Self::Locked { path }
        } else if is(&[ErrorCode::CannotOpen, ErrorCode::ReadOnly, ErrorCode::PermissionDenied]) {
            Self::Unwritable { path, why: source.to_string() }
        } else {
            Self::Failed { path, source }
        }
    }
}
