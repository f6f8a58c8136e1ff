-- name: insert_server
-- Add a server.
INSERT INTO servers (id, machine, process_id, process_start, joined_at, heartbeat_at)
VALUES (:id, :machine, :process_id, :process_start, :joined_at, :heartbeat_at);

-- name: delete_servers
-- Remove all servers: the one that comes knows that it is alone.
DELETE FROM servers;

-- name: beat
-- Renew a server's lease; no row means that it was found dead.
UPDATE servers SET heartbeat_at = :at WHERE id = :id RETURNING id;

-- name: list_servers
-- All servers, the oldest first.
SELECT * FROM servers ORDER BY joined_at, id;

-- name: bury
-- Remove a server that has not beaten since it was read.
DELETE FROM servers WHERE id = :id AND heartbeat_at = :heartbeat_at RETURNING id;

-- name: delete_server
-- Remove a server.
DELETE FROM servers WHERE id = :id;

-- name: find_server
-- Whether a server is there.
SELECT id FROM servers WHERE id = :id;

-- name: find_orphan
-- A started job whose owner is no server.
SELECT id FROM jobs
WHERE finished = 0 AND owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM servers WHERE servers.id = jobs.owner)
LIMIT 1;

-- name: adopt_orphans
-- Give started jobs whose owner is no server to one that is.
UPDATE jobs SET owner = :id
WHERE finished = 0 AND owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM servers WHERE servers.id = jobs.owner)
    AND EXISTS (SELECT 1 FROM servers WHERE servers.id = :id);

-- name: hand_over
-- Give a server's jobs to another.
UPDATE jobs SET owner = :heir WHERE finished = 0 AND owner = :id;
