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

-- version 11
-- An account at a provider that rents machines out. Thousandths of its unit; a limit of 0: none.
CREATE TABLE account (
    provider TEXT PRIMARY KEY CHECK (provider <> ''),
    base_url TEXT,
    day_milli INTEGER NOT NULL CHECK (day_milli >= 0),
    month_milli INTEGER NOT NULL CHECK (month_milli >= 0),
    price_milli INTEGER NOT NULL CHECK (price_milli >= 0),
    floor_milli INTEGER NOT NULL,
    added_at_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- What there is to know of an instance because it is rented.
CREATE TABLE rental (
    instance TEXT PRIMARY KEY REFERENCES instance(name) ON DELETE CASCADE ON UPDATE CASCADE,
    state TEXT NOT NULL,
    goal TEXT NOT NULL,
    id TEXT,
    made INTEGER NOT NULL CHECK (made >= 0),
    asked_at_ms INTEGER NOT NULL,
    create_open INTEGER NOT NULL CHECK (create_open IN (0, 1)),
    ours INTEGER NOT NULL CHECK (ours IN (0, 1)),
    was_on INTEGER NOT NULL CHECK (was_on IN (0, 1)),
    card TEXT,
    image TEXT,
    region TEXT,
    gpu TEXT,
    cards INTEGER NOT NULL CHECK (cards >= 0),
    disk_gb INTEGER NOT NULL CHECK (disk_gb >= 0),
    max_price_milli INTEGER NOT NULL CHECK (max_price_milli >= 0),
    rate_milli INTEGER NOT NULL CHECK (rate_milli >= 0),
    guard_seq INTEGER NOT NULL,
    stopped_at_ms INTEGER NOT NULL,
    prepaid_until_at_ms INTEGER NOT NULL,
    drilled_at_ms INTEGER NOT NULL,
    over_budget INTEGER NOT NULL CHECK (over_budget IN (0, 1)),
    no_guard INTEGER NOT NULL CHECK (no_guard IN (0, 1))
) WITHOUT ROWID;

-- What was about to cost money, written down before it was asked. It holds its money while it is open, and
-- while held is 1: until its interval is closed.
CREATE TABLE intent (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('create', 'power_on')),
    provider TEXT NOT NULL,
    instance TEXT,
    at_ms INTEGER NOT NULL,
    resolved_at_ms INTEGER,
    outcome TEXT,
    held INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    reserved_milli INTEGER NOT NULL CHECK (reserved_milli >= 0),
    unit TEXT NOT NULL,
    day TEXT NOT NULL
);
CREATE UNIQUE INDEX intent_one_open ON intent(instance) WHERE resolved_at_ms IS NULL AND instance IS NOT NULL;
CREATE INDEX intent_holds ON intent(provider, unit) WHERE resolved_at_ms IS NULL OR held;
-- Nobody is left to say what became of it.
CREATE TRIGGER intent_of_nobody AFTER DELETE ON rental BEGIN
    UPDATE intent SET outcome = ifnull(outcome, 'forgotten'), resolved_at_ms = ifnull(resolved_at_ms, at_ms), held = 0
    WHERE instance = OLD.instance AND (resolved_at_ms IS NULL OR held);
END;

-- Intervals at one rate: instants with where they come from, never sums. intent NULL: not by us.
CREATE TABLE spent (
    id INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,
    instance TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('compute', 'disk', 'prepaid')),
    intent INTEGER REFERENCES intent(id),
    from_at_ms INTEGER NOT NULL,
    from_basis TEXT NOT NULL CHECK (from_basis IN ('stamp', 'seen', 'asked')),
    to_at_ms INTEGER,
    to_basis TEXT CHECK (to_basis IN ('stamp', 'seen', 'price', 'guess')),
    seen_at_ms INTEGER NOT NULL,
    rate_milli INTEGER,
    unit TEXT NOT NULL,
    rate_basis TEXT NOT NULL CHECK (rate_basis IN ('snapshot', 'list', 'user', 'unknown')),
    lump_milli INTEGER,
    CHECK (to_at_ms IS NULL OR to_at_ms >= from_at_ms),
    CHECK ((to_at_ms IS NULL) = (to_basis IS NULL))
);
CREATE UNIQUE INDEX spent_one_open ON spent(provider, instance, kind) WHERE to_at_ms IS NULL;
CREATE UNIQUE INDEX spent_start ON spent(provider, instance, kind, from_at_ms);
CREATE INDEX spent_intent ON spent(intent) WHERE intent IS NOT NULL;
-- One with the same beginning is the index's to refuse: it may be the same interval, put again.
CREATE TRIGGER spent_no_overlap BEFORE INSERT ON spent BEGIN
    SELECT RAISE(ABORT, 'overlap') WHERE EXISTS (
        SELECT 1 FROM spent s
        WHERE s.provider = NEW.provider AND s.instance = NEW.instance AND s.kind = NEW.kind
          AND s.from_at_ms <> NEW.from_at_ms
          AND s.from_at_ms < ifnull(NEW.to_at_ms, 9e15) AND NEW.from_at_ms < ifnull(s.to_at_ms, 9e15));
END;
CREATE TRIGGER spent_no_overlap_later BEFORE UPDATE OF from_at_ms, to_at_ms ON spent BEGIN
    SELECT RAISE(ABORT, 'overlap') WHERE EXISTS (
        SELECT 1 FROM spent s
        WHERE s.provider = NEW.provider AND s.instance = NEW.instance AND s.kind = NEW.kind AND s.id <> NEW.id
          AND s.from_at_ms < ifnull(NEW.to_at_ms, 9e15) AND NEW.from_at_ms < ifnull(s.to_at_ms, 9e15));
END;
CREATE TRIGGER spent_closed BEFORE UPDATE ON spent WHEN OLD.to_basis = 'stamp' BEGIN
    SELECT RAISE(ABORT, 'closed');
END;

-- version 12
ALTER TABLE rental ADD COLUMN adopted INTEGER NOT NULL DEFAULT 0 CHECK (adopted IN (0, 1));
ALTER TABLE rental ADD COLUMN no_card INTEGER NOT NULL DEFAULT 0 CHECK (no_card IN (0, 1));
ALTER TABLE rental ADD COLUMN used_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rental ADD COLUMN search_until_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rental ADD COLUMN acted INTEGER NOT NULL DEFAULT 0 CHECK (acted IN (0, 1));
ALTER TABLE instance ADD COLUMN stop TEXT;
ALTER TABLE spent ADD COLUMN no_card INTEGER NOT NULL DEFAULT 0 CHECK (no_card IN (0, 1));

-- version 13
-- Since when the machine that it has now is ours.
ALTER TABLE rental ADD COLUMN made_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rental ADD COLUMN hold_until_at_ms INTEGER NOT NULL DEFAULT 0;

-- What was seen and said last of an instance whose stop is "shutdown": nobody else knows.
CREATE TABLE boxed (
    instance TEXT PRIMARY KEY REFERENCES instance(name) ON DELETE CASCADE ON UPDATE CASCADE,
    state TEXT NOT NULL,
    cycle TEXT NOT NULL,
    since_at_ms INTEGER NOT NULL,
    stop_asked_at_ms INTEGER NOT NULL,
    told INTEGER NOT NULL CHECK (told IN (0, 1)),
    no_guard INTEGER NOT NULL CHECK (no_guard IN (0, 1)),
    acts_at_ms INTEGER NOT NULL,
    trial TEXT NOT NULL,
    tried_at_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- A model that is wanted on whichever of several instances comes first (`up --on A --or B,C`): their names in the order of their turns, with commas
-- between, "+" for one that is made when it is its turn, of such a card (provider to over_budget); whose turn it is, from 0.
CREATE TABLE choice (
    model TEXT PRIMARY KEY CHECK (model <> ''),
    places TEXT NOT NULL CHECK (places <> ''),
    turn INTEGER NOT NULL CHECK (turn >= 0),
    until_at_ms INTEGER NOT NULL,
    provider TEXT,
    gpu TEXT,
    image TEXT,
    region TEXT,
    disk_gb INTEGER NOT NULL,
    max_price_milli INTEGER NOT NULL,
    over_budget INTEGER NOT NULL CHECK (over_budget IN (0, 1))
) WITHOUT ROWID;

-- version 14
-- The last use of it in that power-on, by the machine's own clock.
ALTER TABLE boxed ADD COLUMN used_s INTEGER NOT NULL DEFAULT -1;

-- A machine that bears a name of ours, that no instance knows, and that billed when a list had it last: the next list may leave it out.
CREATE TABLE orphan (
    provider TEXT NOT NULL,
    id TEXT NOT NULL CHECK (id <> ''),
    name TEXT NOT NULL,
    word TEXT NOT NULL,
    gpu TEXT NOT NULL,
    cards INTEGER NOT NULL CHECK (cards >= 0),
    price_milli INTEGER NOT NULL,
    no_card INTEGER NOT NULL CHECK (no_card IN (0, 1)),
    started_at_ms INTEGER NOT NULL,
    seen_at_ms INTEGER NOT NULL,
    missing_at_ms INTEGER NOT NULL,
    PRIMARY KEY (provider, id)
) WITHOUT ROWID;

-- No machine was ever made of it, and no call for one is unsure; a search gave it its name, and nobody has said anything of it since. Since when
-- it is wanted on.
ALTER TABLE rental ADD COLUMN never_made INTEGER NOT NULL DEFAULT 0 CHECK (never_made IN (0, 1));
ALTER TABLE rental ADD COLUMN by_search INTEGER NOT NULL DEFAULT 0 CHECK (by_search IN (0, 1));
ALTER TABLE rental ADD COLUMN wanted_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE choice ADD COLUMN begun_at_ms INTEGER NOT NULL DEFAULT 0;

-- version 15
-- As never_made, but a call for one may have got no answer.
ALTER TABLE rental ADD COLUMN never_seen INTEGER NOT NULL DEFAULT 0 CHECK (never_seen IN (0, 1));
UPDATE rental SET never_seen = never_made;

-- Which machine it was, by its provider's id: a name is given again when its machine was given back. NULL: not known. What was written
-- before is of the machine that has the name now, if it began in its time, or goes on.
ALTER TABLE spent ADD COLUMN machine TEXT;
DROP TRIGGER spent_closed;
UPDATE spent SET machine = (
    SELECT r.id FROM rental r JOIN instance i ON i.name = r.instance
    WHERE r.instance = spent.instance AND i.provider = spent.provider
        AND (spent.to_at_ms IS NULL OR spent.from_at_ms >= max(r.made_at_ms, i.added_at_ms) - 60000));
-- A second machine of an instance is in the books as NAME+ID.
UPDATE spent SET machine = substr(instance, instr(instance, '+') + 1) WHERE instr(instance, '+') > 0;
CREATE TRIGGER spent_closed BEFORE UPDATE ON spent WHEN OLD.to_basis = 'stamp' BEGIN
    SELECT RAISE(ABORT, 'closed');
END;
