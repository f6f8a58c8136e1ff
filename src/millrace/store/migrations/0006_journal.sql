-- What an instance of a job has to remember for its next attempt. `entry` is text, but of any kind of characters.
CREATE TABLE journal (
    job_id   INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    instance INTEGER NOT NULL,
    entry    BLOB NOT NULL,
    body     BLOB NOT NULL,
    PRIMARY KEY (job_id, instance, entry)
);
