-- Schema 2: what a server remembers of its domain.

-- The agreed list of boot servers: what is in force here, and what has been taken up since. A list that was
-- acknowledged is never forgotten before a greater one is in force (G5).
CREATE TABLE roll (
    version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    digest  BLOB    NOT NULL CHECK (length(digest) = 16), -- tells two of one version apart
    state   TEXT    NOT NULL CHECK (state IN ('current', 'left', 'pending')),
    members BLOB    NOT NULL CHECK (length(members) BETWEEN 16 AND 16000 AND length(members) % 16 = 0),
    origins BLOB    NOT NULL CHECK (length(origins) <= 256 AND length(origins) % 16 = 0), -- of the list in force
    former  BLOB    NOT NULL CHECK (length(former) <= 256 AND length(former) % 16 = 0),   -- and before it
    PRIMARY KEY (version, digest)
) STRICT, WITHOUT ROWID;

-- Addresses of our slice that we allow another server to use.
CREATE TABLE loan (
    address      TEXT    NOT NULL PRIMARY KEY,
    borrower     BLOB    NOT NULL CHECK (length(borrower) = 16),
    mtftp_server TEXT    NOT NULL,
    file         BLOB    NOT NULL CHECK (length(file) BETWEEN 1 AND 255),
    since_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Claims of other servers, as the domain told them last: for whoever reads the store. Nothing is answered from them.
CREATE TABLE replica (
    address      TEXT    NOT NULL,
    owner        BLOB    NOT NULL CHECK (length(owner) = 16),
    number       INTEGER NOT NULL,                     -- which of its records
    mtftp_server TEXT    NOT NULL,
    file         BLOB    NOT NULL CHECK (length(file) BETWEEN 1 AND 255),
    client_port  INTEGER NOT NULL CHECK (client_port BETWEEN 0 AND 65535),
    server_port  INTEGER NOT NULL CHECK (server_port BETWEEN 0 AND 65535),
    server_type  INTEGER NOT NULL CHECK (server_type BETWEEN 0 AND 65535),
    layer        INTEGER NOT NULL CHECK (layer BETWEEN 0 AND 65535),
    pinned       INTEGER NOT NULL CHECK (pinned IN (0, 1)),
    configured   INTEGER NOT NULL CHECK (configured IN (0, 1)),
    state        TEXT    NOT NULL CHECK (state IN ('committed', 'draining', 'resting')),
    stamp_ms     INTEGER NOT NULL,
    stamp_sender BLOB    NOT NULL CHECK (length(stamp_sender) = 16),
    first_ms     INTEGER NOT NULL,                     -- since when it is known here
    changed_ms   INTEGER NOT NULL,                     -- when it last changed
    PRIMARY KEY (owner, number)
) STRICT, WITHOUT ROWID;

-- The other servers of the domain.
CREATE TABLE member (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind           TEXT    CHECK (kind IN ('binld', 'mtftpd')), -- NULL if that is not known any more
    address        TEXT    NOT NULL,
    control_port   INTEGER NOT NULL CHECK (control_port BETWEEN 1 AND 65535),
    unreachable_ms INTEGER                             -- last sign of life of one that has vanished
) STRICT, WITHOUT ROWID;

-- Servers heard that speak only the frozen packet.
CREATE TABLE legacy (
    address  TEXT    NOT NULL PRIMARY KEY,
    heard_ms INTEGER NOT NULL                          -- some minutes old at most
) STRICT, WITHOUT ROWID;

-- For how long, up to server.alive_ms and without a gap that matters, such servers were listened for.
CREATE TABLE listened (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    millis    INTEGER NOT NULL,
    host_boot BLOB    NOT NULL CHECK (length(host_boot) = 16) -- the boot of the host: across one no clock is trusted
) STRICT;
