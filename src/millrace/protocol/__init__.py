"""Bytes on the wire <-> typed parameters, out of botocore's service models."""
