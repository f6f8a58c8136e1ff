"""Amazon SageMaker's batch inference and ML job platform, self-hosted."""

__version__ = "0.1.0"
