"""What a processing job says at its end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import ClientFailure
from millrace.jobs.processing import EXIT_MESSAGE_BYTES, exit_message, last_lines


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=800), max_size=4))
def test_the_message_is_the_beginning_of_all_messages(texts: list[str]) -> None:
    """As much of it as fits into the bytes, in whole characters."""
    said = {f"algo-{number}": text.encode()[:EXIT_MESSAGE_BYTES] for number, text in enumerate(texts, start=1)}
    message = exit_message(said) or ""
    assert len(message.encode()) <= EXIT_MESSAGE_BYTES
    whole = "".join(texts)
    if all(len(text.encode()) <= EXIT_MESSAGE_BYTES for text in texts):
        assert whole.startswith(message)
        assert len(whole.encode()) - len(message.encode()) < 4 or len(message.encode()) > EXIT_MESSAGE_BYTES - 4


@pytest.mark.spec("C §12 C-40")
def test_no_message_is_none() -> None:
    """Nor is an empty one."""
    assert exit_message({"algo-1": b"", "algo-2": b""}) is None


def test_a_character_may_be_cut_at_the_limit_only() -> None:
    """There the platform has cut it, elsewhere the program has."""
    cut = ("x" * (EXIT_MESSAGE_BYTES - 1) + "ü").encode()[:EXIT_MESSAGE_BYTES]
    assert exit_message({"algo-1": cut}) == "x" * (EXIT_MESSAGE_BYTES - 1)
    with pytest.raises(ClientFailure):
        exit_message({"algo-1": cut[1:]})


@pytest.mark.spec("C §12 C-41")
def test_what_is_no_utf8_is_a_client_failure() -> None:
    """It names the host, the byte and its place."""
    with pytest.raises(ClientFailure, match=r"message of algo-2 must be UTF-8, got byte 0xe9 at 1"):
        exit_message({"algo-1": b"fine", "algo-2": "né la".encode("latin-1")})


def test_a_reason_quotes_the_last_lines() -> None:
    """At most three; a silent container has none."""
    assert last_lines(["a", "b", "c", "d"]) == ("See job logs for more information; the last lines are: b | c | d")
    assert last_lines([]) == "See job logs for more information"
