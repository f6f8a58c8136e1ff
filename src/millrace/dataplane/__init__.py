"""Batch transform as a stream: list, split, batch, invoke, resequence, assemble."""

from millrace.dataplane.client import Answer, AnswerTooLarge, Client, ClientError, ConnectionFailed, InvocationTimeout
from millrace.dataplane.container import ping, wait_until_healthy
from millrace.dataplane.execution_parameters import EffectiveSettings, container_environment, effective_settings
from millrace.dataplane.failures import data_log_line
from millrace.dataplane.jsonpath import Filter, InvalidFilter, parse_filter
from millrace.dataplane.limits import Limits
from millrace.dataplane.listing import has_input, list_inputs
from millrace.dataplane.plan import InputObject, assign
from millrace.dataplane.run import run_transform
from millrace.dataplane.validate import parse_source_type, validate_spec

__all__ = [
    "Answer",
    "AnswerTooLarge",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "EffectiveSettings",
    "Filter",
    "InputObject",
    "InvalidFilter",
    "InvocationTimeout",
    "Limits",
    "assign",
    "container_environment",
    "data_log_line",
    "effective_settings",
    "has_input",
    "list_inputs",
    "parse_filter",
    "parse_source_type",
    "ping",
    "run_transform",
    "validate_spec",
    "wait_until_healthy",
]
