"""Tests of journals that end with their process."""

import pytest

from millrace.agents.process_journal import ProcessJournals


async def test_instances_see_what_others_saved() -> None:
    """Each changes only its own entries, and what it was given is not changed later."""
    journals = ProcessJournals()
    one, other = journals.of(0), journals.of(1)
    await one.save({"a": b"1", "b": b"2"})
    await other.save({"a": b"3"})
    before = await one.load()
    await one.save({"a": None, "c": b"4"})
    assert before == {"a": b"1", "b": b"2"}
    assert await other.load_of(0) == {0: {"b": b"2", "c": b"4"}, 1: {"a": b"3"}}
    assert await journals.of(1).load() == {"a": b"3"}


async def test_keys_have_a_length() -> None:
    """As in every journal; nothing is saved beside one that has not."""
    journal = ProcessJournals().of(0)
    with pytest.raises(ValueError, match="1 to 2000 bytes"):
        await journal.save({"a": b"1", "": b"2"})
    assert await journal.load() == {}
