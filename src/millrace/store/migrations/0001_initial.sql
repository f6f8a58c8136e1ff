-- Jobs, endpoints among them. `body` is the job's document, `request` what Describe echoes; the columns are what
-- listings filter and sort by. Times are microseconds since the epoch. `version` counts the moves.
CREATE TABLE jobs (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    kind           TEXT NOT NULL,
    region         TEXT NOT NULL,
    name           TEXT NOT NULL,
    arn            TEXT NOT NULL,
    status         TEXT NOT NULL,
    finished       INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL,
    modified_at    INTEGER NOT NULL,
    ended_at       INTEGER,
    failure_reason TEXT,
    version        INTEGER NOT NULL DEFAULT 0,
    body           BLOB NOT NULL,
    request        BLOB NOT NULL,
    UNIQUE (kind, region, name)
);
CREATE INDEX jobs_by_creation ON jobs (kind, region, created_at, id);
CREATE INDEX jobs_by_status ON jobs (kind, region, status, id);
CREATE INDEX jobs_unfinished ON jobs (id) WHERE finished = 0;

-- What happened to jobs: events wait here (applied_at NULL) and stay as the job's history.
CREATE TABLE job_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    posted_at  INTEGER NOT NULL,
    applied_at INTEGER,
    type       TEXT NOT NULL,
    body       BLOB NOT NULL
);
CREATE INDEX job_events_waiting ON job_events (id) WHERE applied_at IS NULL;
CREATE INDEX job_events_of_job ON job_events (job_id, id);

-- Agents: one row per instance, holding its latest attempt. agent_id NULL: opened, nobody has come yet.
CREATE TABLE agents (
    job_id        INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    instance      INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    agent_id      TEXT,
    process_id    INTEGER,
    process_start INTEGER,
    host          TEXT,
    registered_at INTEGER,
    heartbeat_at  INTEGER,
    stop_wanted   INTEGER NOT NULL DEFAULT 0,
    progress      BLOB,
    PRIMARY KEY (job_id, instance)
);

-- Everything else that has a name: models, endpoint configurations, roles, tags.
CREATE TABLE documents (
    kind        TEXT NOT NULL,
    region      TEXT NOT NULL,
    name        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    body        BLOB NOT NULL,
    PRIMARY KEY (kind, region, name)
);
CREATE INDEX documents_by_creation ON documents (kind, region, created_at, name);

-- Access keys; temporary ones have a token and an end.
CREATE TABLE access_keys (
    id            TEXT PRIMARY KEY,
    secret        TEXT NOT NULL,
    role          TEXT NOT NULL,
    account       TEXT NOT NULL,
    session       TEXT NOT NULL,
    session_token TEXT,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER
);
