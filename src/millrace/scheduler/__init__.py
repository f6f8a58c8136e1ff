"""Claims jobs, asks `jobs` what comes next, performs it."""
