"""Benchmarks: Millrace against its peers and its limits, each as a ratio within one run."""

import os

# As the serving programs have it, for all contenders; it must be set before numpy is imported the first time.
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
