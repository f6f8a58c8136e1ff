"""Page tokens that are not what a listing gave."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import ValidationError
from millrace.services.sagemaker.paging import parse_token, print_token

PARAMS = {"SortBy": "Name", "MaxResults": 5}


@given(st.text(), st.integers(-(2**63), 2**63 - 1))
def test_a_token_leads_to_where_it_was_given(value: str, tie: int) -> None:
    """Whatever size the next page has."""
    token = print_token((value, tie), PARAMS)
    assert parse_token({**PARAMS, "NextToken": token, "MaxResults": 7}, str, int) == (value, tie)


@pytest.mark.parametrize(
    "place", [[1, 1], ["a", "b"], [["a"], 1], [{}, 1], [None, 1], ["a", True], ["a", 2**63], ["a"]]
)
def test_a_token_that_a_client_made_up_is_refused(place: list[Any]) -> None:
    """Its filters can be right by calculation; a place of another kind is the client's error, not ours."""
    [filters, *_] = json.loads(base64.urlsafe_b64decode(print_token(("a", 1), PARAMS) or ""))
    token = base64.urlsafe_b64encode(json.dumps([filters, *place]).encode()).decode()
    with pytest.raises(ValidationError, match="NextToken is not valid"):
        parse_token({**PARAMS, "NextToken": token}, str, int)


@pytest.mark.parametrize("token", ["x", "é", base64.urlsafe_b64encode(b"{}").decode()])
def test_what_is_no_token_is_refused(token: str) -> None:
    """The answer repeats it."""
    with pytest.raises(ValidationError, match="NextToken is not valid"):
        parse_token({**PARAMS, "NextToken": token}, str, int)


def test_a_token_belongs_to_its_filters() -> None:
    """Going on with another order would leave entries out."""
    token = print_token(("a", 1), PARAMS)
    with pytest.raises(ValidationError, match="other filters"):
        parse_token({**PARAMS, "SortBy": "Status", "NextToken": token}, str, int)
