"""The seams: one Protocol per file, its contract in the docstring."""
