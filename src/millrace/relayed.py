"""How the server tells containers' connections, which agents carry to it, from those of this machine's own programs."""

__all__ = ["RELAY_ADDRESS"]

RELAY_ADDRESS = "127.0.0.2"
"""Loopback address that carried connections come from; on Linux all of 127.0.0.0/8 is there."""
