"""Benchmarks: Millrace against its peers and its limits, each as a ratio within one run."""
