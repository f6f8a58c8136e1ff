"""The Engine port for real: where agents run."""
