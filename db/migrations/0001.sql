-- Schema 1. Both daemons have the same tables; `server.kind` says whose store this is.
-- Addresses are text, identifiers and file names bytes. Numbers of 64 bits keep their bits: above 2^63-1 they read
-- as negative. Times are milliseconds of the wall clock since 1970.

-- One row: who we are.
CREATE TABLE server (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    kind       TEXT    NOT NULL CHECK (kind IN ('binld', 'mtftpd')),
    id         BLOB    CHECK (length(id) = 16),        -- NULL until the first start
    boot_epoch INTEGER NOT NULL DEFAULT 0,             -- 0 until the first start
    alive_ms   INTEGER NOT NULL DEFAULT 0              -- last known alive; 0 = never
) STRICT;

-- Which address carries which content, for which boot item, in whose name.
CREATE TABLE claim (
    address      TEXT    NOT NULL,
    owner        BLOB    NOT NULL CHECK (length(owner) = 16),
    mtftp_server TEXT    NOT NULL,
    file         BLOB    NOT NULL CHECK (length(file) BETWEEN 1 AND 255),
    client_port  INTEGER NOT NULL CHECK (client_port BETWEEN 0 AND 65535),
    server_port  INTEGER NOT NULL CHECK (server_port BETWEEN 0 AND 65535),
    server_type  INTEGER NOT NULL CHECK (server_type BETWEEN 0 AND 65535),
    layer        INTEGER NOT NULL CHECK (layer BETWEEN 0 AND 65535),
    boot_item    TEXT    NOT NULL,
    pinned       INTEGER NOT NULL CHECK (pinned IN (0, 1)),
    state        TEXT    NOT NULL CHECK (state IN ('clearing', 'recording', 'configuring', 'held', 'draining')),
    stamp_ms     INTEGER NOT NULL,
    stamp_sender BLOB    NOT NULL CHECK (length(stamp_sender) = 16),
    since_ms     INTEGER NOT NULL,
    PRIMARY KEY (address, owner)
) STRICT, WITHOUT ROWID;

-- Addresses in use by somebody else, for a while.
CREATE TABLE mark (
    address  TEXT    NOT NULL PRIMARY KEY,
    until_ms INTEGER NOT NULL,
    why      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- The list of BINLDs per address of an MTFTP server (R003.15).
CREATE TABLE reference (
    address       TEXT    NOT NULL,
    binld         BLOB    NOT NULL CHECK (length(binld) = 16),
    binld_address TEXT    NOT NULL,
    file          BLOB    NOT NULL CHECK (length(file) BETWEEN 1 AND 255),
    client_port   INTEGER NOT NULL CHECK (client_port BETWEEN 0 AND 65535),
    server_port   INTEGER NOT NULL CHECK (server_port BETWEEN 0 AND 65535),
    epoch         INTEGER NOT NULL CHECK (epoch BETWEEN 0 AND 4294967295),
    serial        INTEGER NOT NULL CHECK (serial BETWEEN 0 AND 4294967295),
    stamp_ms      INTEGER NOT NULL,
    stamp_sender  BLOB    NOT NULL CHECK (length(stamp_sender) = 16),
    since_ms      INTEGER NOT NULL,
    renewed_ms    INTEGER NOT NULL,
    PRIMARY KEY (address, binld)
) STRICT, WITHOUT ROWID;

-- The highest (epoch, serial) seen per address and BINLD. It outlives the reference, so that a late datagram
-- cannot bring one back (G14).
CREATE TABLE serial (
    address TEXT    NOT NULL,
    binld   BLOB    NOT NULL CHECK (length(binld) = 16),
    epoch   INTEGER NOT NULL CHECK (epoch BETWEEN 0 AND 4294967295),
    serial  INTEGER NOT NULL CHECK (serial BETWEEN 0 AND 4294967295),
    PRIMARY KEY (address, binld)
) STRICT, WITHOUT ROWID;

-- Released addresses that are not used again yet.
CREATE TABLE rest (
    address      TEXT    NOT NULL PRIMARY KEY,
    mtftp_server TEXT, -- NULL in the store of that server itself
    file         BLOB    NOT NULL CHECK (length(file) BETWEEN 1 AND 255),
    stamp_ms     INTEGER NOT NULL,
    stamp_sender BLOB    NOT NULL CHECK (length(stamp_sender) = 16),
    since_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
