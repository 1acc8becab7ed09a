-- Moments are milliseconds since 1970, UTC.

-- What the agent must remember about itself: the trust domain, its root, the sequence number of the trust bundles.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE join_tokens (
    id              TEXT PRIMARY KEY,
    -- SHA-256 of the secret, which is stored nowhere.
    hash            BLOB NOT NULL UNIQUE,
    spiffe_id       TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    -- All three, or none: spent together with one public key, on one certificate.
    spent_at        INTEGER,
    public_key_hash BLOB,
    serial          TEXT,
    CHECK ((spent_at IS NULL) = (public_key_hash IS NULL) AND (spent_at IS NULL) = (serial IS NULL))
) STRICT;

CREATE TABLE certificates (
    serial           TEXT PRIMARY KEY,
    spiffe_id        TEXT NOT NULL,
    -- The serial number of the first certificate of this chain of renewals.
    holder           TEXT NOT NULL,
    -- Whether the holder has a newer one.
    superseded       INTEGER NOT NULL DEFAULT 0,
    previous         TEXT,
    -- DER certificates one after another, leaf first.
    chain            BLOB NOT NULL,
    issuer           TEXT NOT NULL,
    public_key_hash  BLOB NOT NULL,
    host             TEXT NOT NULL,
    pod_name         TEXT NOT NULL,
    pod_uid          TEXT NOT NULL,
    node_name        TEXT NOT NULL,
    version          TEXT NOT NULL,
    attestation      TEXT NOT NULL,
    attested_at      INTEGER NOT NULL,
    issued_at        INTEGER NOT NULL,
    not_before       INTEGER NOT NULL,
    not_after        INTEGER NOT NULL,
    -- The last sequence number of the trust bundles that its holder has applied.
    applied_sequence INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX certificates_by_name ON certificates (spiffe_id, serial);
CREATE INDEX certificates_by_holder ON certificates (holder);
CREATE INDEX certificates_by_end ON certificates (not_after);

CREATE TABLE audit (
    id              INTEGER PRIMARY KEY,
    at              INTEGER NOT NULL,
    -- 'issued', 'repeated' or 'refused'.
    event           TEXT NOT NULL,
    -- Why it was refused.
    reason          TEXT,
    attestation     TEXT,
    spiffe_id       TEXT,
    serial          TEXT,
    public_key_hash TEXT,
    source          TEXT
) STRICT;

CREATE INDEX audit_by_time ON audit (at);
