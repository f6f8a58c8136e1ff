-- name: find_document
-- One document.
SELECT * FROM documents WHERE kind = :kind AND region = :region AND name = :name;

-- name: insert_document
-- Add a document; no row for a taken name.
INSERT INTO documents (kind, region, name, created_at, modified_at, body)
VALUES (:kind, :region, :name, :at, :at, :body)
ON CONFLICT DO NOTHING RETURNING *;

-- name: put_document
-- Add or replace a document; its creation time stays.
INSERT INTO documents (kind, region, name, created_at, modified_at, body)
VALUES (:kind, :region, :name, :at, :at, :body)
ON CONFLICT (kind, region, name) DO UPDATE SET modified_at = excluded.modified_at, body = excluded.body
RETURNING *;

-- name: delete_document
-- Remove a document.
DELETE FROM documents WHERE kind = :kind AND region = :region AND name = :name;

-- name: list_documents
-- Documents of a kind whose names start with a prefix, after a name, in order of name.
SELECT * FROM documents
WHERE kind = :kind AND region = :region AND name > :after AND substr(name, 1, length(:prefix)) = :prefix
ORDER BY name LIMIT :limit;
