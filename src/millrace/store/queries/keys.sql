-- name: find_key
-- One access key.
SELECT * FROM access_keys WHERE id = :id;

-- name: insert_key
-- Add an access key.
INSERT INTO access_keys (id, secret, role, account, session, session_token, created_at, expires_at)
VALUES (:id, :secret, :role, :account, :session, :session_token, :created_at, :expires_at);

-- name: first_key
-- The oldest lasting key of an account: the default account's is the one that `millrace env` prints.
SELECT * FROM access_keys WHERE expires_at IS NULL AND account = :account ORDER BY created_at, id LIMIT 1;

-- name: list_lasting_keys
-- All keys without an end, the oldest first.
SELECT * FROM access_keys WHERE expires_at IS NULL ORDER BY created_at, id;

-- name: delete_key
-- Forget an access key.
DELETE FROM access_keys WHERE id = :id;

-- name: list_accounts
-- All accounts, the oldest first.
SELECT * FROM accounts ORDER BY created_at, id;

-- name: insert_account
-- Add an account.
INSERT INTO accounts (id, name, created_at) VALUES (:id, :name, :created_at);

-- name: delete_expired_keys
-- Forget temporary keys whose time is over.
DELETE FROM access_keys WHERE expires_at IS NOT NULL AND expires_at < :at;
