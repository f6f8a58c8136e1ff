-- name: find_key
-- One access key.
SELECT * FROM access_keys WHERE id = :id;

-- name: insert_key
-- Add an access key.
INSERT INTO access_keys (id, secret, role, account, session, session_token, created_at, expires_at)
VALUES (:id, :secret, :role, :account, :session, :session_token, :created_at, :expires_at);

-- name: first_key
-- The oldest lasting key: the one that `millrace env` prints.
SELECT * FROM access_keys WHERE expires_at IS NULL ORDER BY created_at, id LIMIT 1;

-- name: delete_expired_keys
-- Forget temporary keys whose time is over.
DELETE FROM access_keys WHERE expires_at IS NOT NULL AND expires_at < :at;
