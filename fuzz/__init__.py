"""Fuzzing of everything that reads bytes of strangers: objects, answers of containers, requests."""
