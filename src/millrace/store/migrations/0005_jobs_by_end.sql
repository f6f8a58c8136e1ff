-- What ended since the last look, and what ended long ago: without reading all jobs.
CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE finished = 1;
