"""The serving side of the container contract: /ping, /invocations and /execution-parameters."""
