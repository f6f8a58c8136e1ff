"""Shipped fakes, and the contract of each port as a test class."""
