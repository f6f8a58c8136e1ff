"""SageMaker's built-in algorithms as ordinary containers: `python -m millrace_algorithms <name> train|serve`."""
