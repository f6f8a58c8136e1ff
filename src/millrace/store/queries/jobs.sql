-- name: insert_job
-- Add a job; no row for a taken name.
INSERT INTO jobs (kind, region, name, arn, status, finished, created_at, modified_at, body, request)
VALUES (:kind, :region, :name, :arn, :status, 0, :created_at, :modified_at, :body, :request)
ON CONFLICT DO NOTHING RETURNING id, kind, version, body;

-- name: find_job
-- One job by its name.
SELECT id, kind, version, body FROM jobs WHERE kind = :kind AND region = :region AND name = :name;

-- name: find_job_with_request
-- One job by its name, with the request that made it.
SELECT id, kind, version, body, request FROM jobs WHERE kind = :kind AND region = :region AND name = :name;

-- name: find_job_by_id
-- One job by its id.
SELECT id, kind, version, body FROM jobs WHERE id = :id;

-- name: list_unfinished
-- Ids of all jobs that the scheduler still has to do with.
SELECT id FROM jobs WHERE finished = 0 ORDER BY id;

-- name: list_open
-- All jobs that schedulers still have to do with, and whose they are.
SELECT id, kind, version, owner FROM jobs WHERE finished = 0 ORDER BY id;

-- name: save_job
-- Save a moved job, and claim it if an owner is given; the guard on version and owner lets one of two movers win.
UPDATE jobs
SET status = :status, finished = :finished, modified_at = :modified_at, ended_at = :ended_at,
    failure_reason = :failure_reason, version = version + 1, body = :body, owner = COALESCE(:owner, owner)
WHERE id = :id AND version = :version AND (CAST(:owner AS TEXT) IS NULL OR owner IS NULL OR owner = :owner)
RETURNING id, kind, version, body;

-- name: mark_applied
-- An event has moved its job; no row if it has before.
UPDATE job_events SET applied_at = :at WHERE id = :id AND applied_at IS NULL;

-- name: delete_job
-- Forget a job; events and agents go with it.
DELETE FROM jobs WHERE id = :id;

-- name: find_request
-- What Describe echoes of a job.
SELECT request FROM jobs WHERE id = :id;

-- name: update_request
-- Replace what Describe echoes of a job.
UPDATE jobs SET request = :request WHERE id = :id;

-- name: post_event
-- Add an event of a job that still exists.
INSERT INTO job_events (job_id, posted_at, type, body)
SELECT id, :at, :type, :body FROM jobs WHERE id = :job_id;

-- name: post_event_of_agent
-- Add an event, if it comes from the latest attempt of its instance.
INSERT INTO job_events (job_id, posted_at, type, body)
SELECT job_id, :at, :type, :body FROM agents
WHERE job_id = :job_id AND instance = :instance AND attempt = :attempt;

-- name: list_posted
-- Events that wait, oldest first.
SELECT id, job_id, type, body FROM job_events WHERE applied_at IS NULL ORDER BY id;

-- name: history
-- What happened to a job.
SELECT applied_at, type, body FROM job_events WHERE job_id = :job_id AND applied_at IS NOT NULL ORDER BY id;

-- name: open_instance
-- Open an attempt; a later one closes the earlier, the same one again changes nothing.
INSERT INTO agents (job_id, instance, attempt) VALUES (:job_id, :instance, :attempt)
ON CONFLICT (job_id, instance) DO UPDATE
SET attempt = excluded.attempt, agent_id = NULL, process_id = NULL, process_start = NULL, host = NULL, registered_at = NULL,
    heartbeat_at = NULL
WHERE agents.attempt < excluded.attempt;

-- name: register_agent
-- Take an attempt; only the first agent finds it free.
UPDATE agents
SET agent_id = :agent_id, process_id = :process_id, process_start = :process_start, host = :host, registered_at = :at, heartbeat_at = :at
WHERE job_id = :job_id AND instance = :instance AND attempt = :attempt AND agent_id IS NULL;

-- name: heartbeat
-- Renew a lease and tell whether to stop; no row means that it is lost.
UPDATE agents SET heartbeat_at = :at, progress = COALESCE(:progress, progress)
WHERE job_id = :job_id AND instance = :instance AND attempt = :attempt AND agent_id = :agent_id
RETURNING stop_wanted;

-- name: is_stop_wanted
-- Whether an instance is to stop; no row for an attempt that is closed.
SELECT stop_wanted FROM agents WHERE job_id = :job_id AND instance = :instance AND attempt = :attempt;

-- name: want_stop
-- Tell an instance to stop.
INSERT INTO agents (job_id, instance, attempt, stop_wanted) VALUES (:job_id, :instance, 0, 1)
ON CONFLICT (job_id, instance) DO UPDATE SET stop_wanted = 1;

-- name: find_agent
-- The agent at work on an attempt.
SELECT * FROM agents
WHERE job_id = :job_id AND instance = :instance AND attempt = :attempt AND agent_id IS NOT NULL;

-- name: list_agents_of_server
-- The agents at work on a server's jobs.
SELECT agents.* FROM agents JOIN jobs ON jobs.id = agents.job_id
WHERE jobs.finished = 0 AND jobs.owner = :owner AND agents.agent_id IS NOT NULL;

-- name: list_agents
-- The newest agents of a job, by instance.
SELECT * FROM agents WHERE job_id = :job_id AND registered_at IS NOT NULL ORDER BY instance;
