-- Schema 2: what a BINLD must remember of its domain.

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

-- Servers heard that speak only the frozen packet.
CREATE TABLE legacy (
    address  TEXT    NOT NULL PRIMARY KEY,
    heard_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
