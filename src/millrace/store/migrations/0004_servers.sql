-- Servers at work on this state. One whose heartbeats have ended is removed by another, which takes its jobs.
CREATE TABLE servers (
    id            TEXT PRIMARY KEY,
    machine       TEXT NOT NULL,
    process_id    INTEGER NOT NULL,
    process_start INTEGER NOT NULL,
    joined_at     INTEGER NOT NULL,
    heartbeat_at  INTEGER NOT NULL
);

-- The server that starts and watches a job's agents; NULL until one has started the job.
ALTER TABLE jobs ADD COLUMN owner TEXT;

-- Jobs that are at work already get an owner that is no server, so that the next server adopts them.
UPDATE jobs SET owner = '' WHERE finished = 0;
