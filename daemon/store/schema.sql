-- The whole history of the schema. A new version is a new section at the end; a section that was released never changes.
-- What stands below "-- version N" takes a database from N - 1 to N; all that is missing runs in one transaction.

-- version 1
CREATE TABLE daemon (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE instance (
    name TEXT PRIMARY KEY CHECK (name <> ''),
    provider TEXT NOT NULL,
    host TEXT,
    user TEXT,
    port INTEGER NOT NULL CHECK (port BETWEEN 0 AND 65535),
    install_key INTEGER NOT NULL CHECK (install_key IN (0, 1)),
    added_at_ms INTEGER NOT NULL,
    host_key BLOB,
    host_key_at_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE deployment (
    name TEXT PRIMARY KEY CHECK (name <> ''),
    instance TEXT REFERENCES instance(name) ON DELETE CASCADE ON UPDATE CASCADE,
    goal TEXT NOT NULL CHECK (goal <> ''),
    goal_at_ms INTEGER NOT NULL,
    touched INTEGER NOT NULL CHECK (touched IN (0, 1)),
    shown TEXT,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    last_used_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX deployment_instance ON deployment(instance);

CREATE TABLE forward (
    listen_ip TEXT NOT NULL,
    listen_port INTEGER NOT NULL CHECK (listen_port BETWEEN 1 AND 65535),
    instance TEXT NOT NULL REFERENCES instance(name) ON DELETE CASCADE ON UPDATE CASCADE,
    address TEXT NOT NULL,
    port INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    PRIMARY KEY (listen_ip, listen_port)
) WITHOUT ROWID;
CREATE INDEX forward_instance ON forward(instance);

-- Oldest first by id; the newest 100,000 are kept.
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    level TEXT NOT NULL,
    source TEXT NOT NULL,
    target TEXT,
    kind TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX event_target ON event(target, id) WHERE target IS NOT NULL;

-- The last 15 durations in milliseconds, oldest first, separated by spaces.
CREATE TABLE duration (
    what TEXT PRIMARY KEY,
    last TEXT NOT NULL
) WITHOUT ROWID;

-- version 2
-- The socket of an ssh-agent whose keys log in.
ALTER TABLE instance ADD COLUMN agent TEXT;

-- version 3
-- What `up MODEL -- …` said, a JSON array of strings.
ALTER TABLE deployment ADD COLUMN arguments TEXT;

-- version 4
-- The way to it that is no TCP connection, as a line of ssh_config (proto/ssh_proxy.h).
ALTER TABLE instance ADD COLUMN proxy TEXT;

-- version 5
-- Wanted, and not in memory until somebody asks for it: why.
ALTER TABLE deployment ADD COLUMN asleep TEXT;

-- version 6
-- What was asked of a model, by whom. first, total: times, "SUM_MS STEP:COUNT …" (gateway/histogram.h).
CREATE TABLE count (
    model TEXT NOT NULL,
    client TEXT NOT NULL,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    errors INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    answer_tokens INTEGER NOT NULL,
    request_bytes INTEGER NOT NULL,
    answer_bytes INTEGER NOT NULL,
    first TEXT NOT NULL,
    total TEXT NOT NULL,
    PRIMARY KEY (model, client)
) WITHOUT ROWID;

-- version 7
-- The API keys of applications; hash: SHA-256 of what they send.
CREATE TABLE api_key (
    name TEXT PRIMARY KEY CHECK (name <> ''),
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    made_at_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- version 8
-- Since when it sleeps (0: it is on its way there); until when `keep` holds it (0: it does not).
ALTER TABLE deployment ADD COLUMN asleep_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deployment ADD COLUMN keep_until_at_ms INTEGER NOT NULL DEFAULT 0;

-- version 9
-- A model may be wanted on several instances.
CREATE TABLE deployment_of (
    name TEXT NOT NULL CHECK (name <> ''),
    instance TEXT NOT NULL REFERENCES instance(name) ON DELETE CASCADE ON UPDATE CASCADE,
    goal TEXT NOT NULL CHECK (goal <> ''),
    goal_at_ms INTEGER NOT NULL,
    touched INTEGER NOT NULL CHECK (touched IN (0, 1)),
    shown TEXT,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    last_used_at_ms INTEGER NOT NULL,
    arguments TEXT,
    asleep TEXT,
    asleep_at_ms INTEGER NOT NULL,
    keep_until_at_ms INTEGER NOT NULL,
    PRIMARY KEY (name, instance)
) WITHOUT ROWID;
INSERT INTO deployment_of
    SELECT name, instance, goal, goal_at_ms, touched, shown, requests, last_used_at_ms, arguments, asleep, asleep_at_ms,
           keep_until_at_ms
    FROM deployment WHERE instance IS NOT NULL;
DROP TABLE deployment;
ALTER TABLE deployment_of RENAME TO deployment;
CREATE INDEX deployment_instance ON deployment(instance);

-- version 10
-- A short name of a model; the model need not be wanted, or known.
CREATE TABLE alias (
    name TEXT PRIMARY KEY CHECK (name <> ''),
    model TEXT NOT NULL CHECK (model <> '')
) WITHOUT ROWID;
