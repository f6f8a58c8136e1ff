-- name: count_jobs
-- How many jobs of each kind are in each status.
SELECT kind, status, COUNT(*) AS number FROM jobs GROUP BY kind, status;

-- name: count_queued
-- Unfinished jobs for which no agent has registered.
SELECT kind, COUNT(*) AS number FROM jobs
WHERE finished = 0 AND NOT EXISTS (SELECT 1 FROM agents WHERE job_id = jobs.id AND registered_at IS NOT NULL)
GROUP BY kind;

-- name: count_instances
-- Instances with an agent, of unfinished jobs.
SELECT jobs.kind AS kind, COUNT(*) AS number FROM agents JOIN jobs ON jobs.id = agents.job_id
WHERE jobs.finished = 0 AND agents.agent_id IS NOT NULL
GROUP BY jobs.kind;

-- name: list_progress
-- Counters of the instances of a kind of job that are at work, or whose job ended after a moment.
SELECT agents.job_id AS job_id, agents.instance AS instance, agents.attempt AS attempt, agents.progress AS progress
FROM agents JOIN jobs ON jobs.id = agents.job_id
WHERE jobs.kind = :kind AND agents.progress IS NOT NULL AND (jobs.finished = 0 OR jobs.ended_at >= :ended_after);

-- name: list_ended_jobs
-- Jobs that ended before a moment and that nothing waits to move.
SELECT id, kind, region, name, ended_at FROM jobs
WHERE finished = 1 AND ended_at IS NOT NULL AND ended_at < :before AND id > :after_id
    AND NOT EXISTS (SELECT 1 FROM job_events WHERE job_id = jobs.id AND applied_at IS NULL)
ORDER BY id LIMIT :limit;

-- name: forget_ended_job
-- Delete one of them; events and agents go with it. The guard is here: it may have been made anew since it was listed.
DELETE FROM jobs WHERE id = :id AND finished = 1 AND ended_at IS NOT NULL AND ended_at < :before;

-- name: forget_tags_of_ended_job
-- Delete the tags of a job that is about to be forgotten, by the same guard.
DELETE FROM documents
WHERE kind = 'tags' AND name IN (
    SELECT arn FROM jobs WHERE id = :id AND finished = 1 AND ended_at IS NOT NULL AND ended_at < :before
);

-- name: list_unfinished_names
-- What the scheduler still has to do with, by name.
SELECT id, kind, name FROM jobs WHERE finished = 0 ORDER BY id;

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
