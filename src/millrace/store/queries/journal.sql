-- name: save_entry
-- Set one entry.
INSERT INTO journal (job_id, instance, entry, body) VALUES (:job_id, :instance, :entry, :body)
ON CONFLICT (job_id, instance, entry) DO UPDATE SET body = excluded.body;

-- name: delete_entry
-- Forget one entry.
DELETE FROM journal WHERE job_id = :job_id AND instance = :instance AND entry = :entry;

-- name: entries
-- What one instance has saved.
SELECT entry, body FROM journal WHERE job_id = :job_id AND instance = :instance;

-- name: entries_of_job
-- What all instances of a job have saved.
SELECT instance, entry, body FROM journal WHERE job_id = :job_id;
