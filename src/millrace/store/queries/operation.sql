-- name: count_jobs
-- How many jobs of each kind are in each status.
SELECT kind, status, COUNT(*) AS number FROM jobs GROUP BY kind, status;

-- name: count_ended_jobs
-- How many jobs of each kind and status ended after a moment.
SELECT kind, status, COUNT(*) AS number FROM jobs WHERE finished = 1 AND ended_at >= :ended_after GROUP BY kind, status;

-- name: list_unfinished_jobs
-- What the scheduler still has to do with, and how many of its instances have had an agent, and have one.
SELECT jobs.id AS id, jobs.kind AS kind, jobs.name AS name, jobs.status AS status,
    COUNT(agents.registered_at) AS registered, COUNT(agents.agent_id) AS working
FROM jobs LEFT JOIN agents ON agents.job_id = jobs.id
WHERE jobs.finished = 0
GROUP BY jobs.id ORDER BY jobs.id;

-- name: list_progress_unfinished
-- Counters of the instances that are at work. No condition on the kind: the index of unfinished jobs is the one to use.
SELECT jobs.kind AS kind, agents.job_id AS job_id, agents.instance AS instance, agents.attempt AS attempt,
    agents.progress AS progress
FROM jobs JOIN agents ON agents.job_id = jobs.id
WHERE jobs.finished = 0 AND agents.progress IS NOT NULL;

-- name: list_progress_ended
-- Counters of the instances of jobs that ended after a moment.
SELECT jobs.kind AS kind, agents.job_id AS job_id, agents.instance AS instance, agents.attempt AS attempt,
    agents.progress AS progress
FROM jobs JOIN agents ON agents.job_id = jobs.id
WHERE jobs.finished = 1 AND jobs.ended_at >= :ended_after AND agents.progress IS NOT NULL;

-- name: list_ended_jobs
-- Jobs that ended before a moment and that nothing waits to move, by end, after one of them.
SELECT id, kind, region, name, ended_at FROM jobs
WHERE finished = 1 AND ended_at < :before AND (ended_at, id) > (:after_at, :after_id)
    AND NOT EXISTS (SELECT 1 FROM job_events WHERE job_id = jobs.id AND applied_at IS NULL)
ORDER BY ended_at, id LIMIT :limit;

-- name: forget_ended_job
-- Delete one of them; events and agents go with it. The guard is here: it may have been made anew since it was listed.
DELETE FROM jobs WHERE id = :id AND finished = 1 AND ended_at IS NOT NULL AND ended_at < :before;

-- name: forget_tags_of_ended_job
-- Delete the tags of a job that is about to be forgotten, by the same guard.
DELETE FROM documents
WHERE kind = 'tags' AND name IN (
    SELECT arn FROM jobs WHERE id = :id AND finished = 1 AND ended_at IS NOT NULL AND ended_at < :before
);

-- name: count_expired_keys
-- Temporary keys that have had their time.
SELECT COUNT(*) AS number FROM access_keys WHERE expires_at IS NOT NULL AND expires_at < :at;

-- name: delete_expired_keys
-- Forget them.
DELETE FROM access_keys WHERE expires_at IS NOT NULL AND expires_at < :at;

-- name: claim_turn
-- Take a task's turn, unless somebody took it not long ago.
INSERT INTO turns (task, taken_at) VALUES (:task, :at)
ON CONFLICT (task) DO UPDATE SET taken_at = excluded.taken_at WHERE turns.taken_at <= :before;
