-- When some server last took the turn of a task that only one of them does, such as the daily gc.
CREATE TABLE turns (
    task     TEXT PRIMARY KEY,
    taken_at BIGINT NOT NULL
);
