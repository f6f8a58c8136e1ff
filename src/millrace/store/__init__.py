"""The ports of jobs, documents, keys, objects and logs, for real: SQLite and folders."""
