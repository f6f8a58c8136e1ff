"""Tests of what requests of several resources have in common."""

import pytest

from millrace.errors import ValidationError
from millrace.services.sagemaker.arguments import environment


def test_a_nul_in_a_variable_is_refused() -> None:
    """No process can be given one: the error names the variable."""
    with pytest.raises(ValidationError, match=r"environment\.A: the value of a variable must not contain a NUL"):
        environment({"Environment": {"B": "fine", "A": "v\0x"}})
    assert environment({"Environment": {"B": "fine"}}) == {"B": "fine"}
    assert environment({}) == {}
