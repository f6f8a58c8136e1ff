"""What one instance of a job does: its containers, its data, and its word to the scheduler."""
