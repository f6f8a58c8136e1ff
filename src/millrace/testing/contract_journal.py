"""What every Journal must do; a backend subclasses this and says how an attempt's is opened."""

import asyncio
from typing import Protocol

import pytest

from millrace.errors import LeaseLost
from millrace.ports.journal import MAX_KEY_BYTES, Journal

__all__ = ["JournalContract", "JournalsOfJobs"]


class JournalsOfJobs(Protocol):
    """Two jobs with two instances each, all on the same state."""

    job_ids: tuple[int, int]

    async def open(self, job_id: int, *, index: int = 0, attempt: int = 1) -> Journal:
        """Open an attempt, which closes earlier ones, and return the journal of the agent that has taken it."""
        ...


class JournalContract:
    """The contract of ports/journal.py."""

    @pytest.fixture
    def journals(self) -> JournalsOfJobs:
        raise NotImplementedError("a backend gives its journals")

    async def test_what_was_saved_is_loaded(self, journals: JournalsOfJobs) -> None:
        """By the attempt that saved it and by the next one."""
        job_id = journals.job_ids[0]
        first = await journals.open(job_id)
        assert await first.load() == {}
        await first.save({"a": b"1", "b": b"\0\xff", "c": b""})
        assert await first.load() == {"a": b"1", "b": b"\0\xff", "c": b""}
        second = await journals.open(job_id, attempt=2)
        assert await second.load() == await first.load()

    async def test_entries_are_replaced_and_deleted(self, journals: JournalsOfJobs) -> None:
        """Each by its key; the others stay. What is not there is deleted in vain."""
        journal = await journals.open(journals.job_ids[0])
        await journal.save({"a": b"1", "b": b"2", "c": b"3"})
        await journal.save({"a": b"one", "b": None, "nothing": None})
        await journal.save({})
        assert await journal.load() == {"a": b"one", "c": b"3"}

    @pytest.mark.parametrize("key", ["s3://shop/“ü”/日本/\U0001f600", "nul\0", "%", "'; --", "n" * MAX_KEY_BYTES])
    async def test_any_text_is_a_key(self, journals: JournalsOfJobs, key: str) -> None:
        """Names of objects are, whatever is in them."""
        journal = await journals.open(journals.job_ids[0])
        await journal.save({key: b"x", f"{key[:100]}.": b"y"})
        await journal.save({f"{key[:100]}.": None})
        assert await journal.load() == {key: b"x"}

    @pytest.mark.parametrize("key", ["", "n" * (MAX_KEY_BYTES + 1), "ü" * (MAX_KEY_BYTES // 2 + 1)])
    async def test_keys_have_a_length(self, journals: JournalsOfJobs, key: str) -> None:
        """Others are refused, and what was to be saved with them."""
        journal = await journals.open(journals.job_ids[0])
        with pytest.raises(ValueError, match="a journal's key must have 1 to 2000 bytes of UTF-8, got"):
            await journal.save({"a": b"1", key: b"x"})
        assert await journal.load() == {}

    async def test_instances_have_journals_of_their_own(self, journals: JournalsOfJobs) -> None:
        """The same key is another entry in another instance, and in another job."""
        one, two = journals.job_ids
        mine = await journals.open(one)
        for others in (await journals.open(one, index=1), await journals.open(two)):
            await others.save({"a": b"theirs"})
        await mine.save({"a": b"mine"})
        assert await mine.load() == {"a": b"mine"}
        await mine.save({"a": None})
        assert await mine.load() == {}
        assert await (await journals.open(one, index=1, attempt=2)).load() == {"a": b"theirs"}

    async def test_another_job_is_read_by_instances(self, journals: JournalsOfJobs) -> None:
        """So that a job may take up the work of one that failed."""
        one, two = journals.job_ids
        for index in range(2):
            await (await journals.open(one, index=index)).save({f"{index}a": b"x", f"{index}b": b"y"})
        reader = await journals.open(two)
        assert await reader.load_of(one) == {0: {"0a": b"x", "0b": b"y"}, 1: {"1a": b"x", "1b": b"y"}}
        assert await reader.load_of(two) == {}
        assert await reader.load_of(4711) == {}

    async def test_entries_of_other_jobs_are_taken_over(self, journals: JournalsOfJobs) -> None:
        """Those of the keys that are asked for; they are the other jobs' no longer, and taken once."""
        one, two = journals.job_ids
        for index in range(2):
            await (await journals.open(one, index=index)).save({f"{index}a": b"x", f"{index}b": b"y"})
        taker = await journals.open(two)
        await taker.save({"1a": b"mine"})
        for _ in range(2):
            await taker.take_over([one, 4711], ["0a", "1a", "nothing"])
            assert await taker.load() == {"0a": b"x", "1a": b"mine"}
            assert await taker.load_of(one) == {0: {"0b": b"y"}, 1: {"1b": b"y"}}
        with pytest.raises(ValueError, match="a journal's key must have"):
            await taker.take_over([one], ["0b", ""])

    async def test_the_first_job_that_has_an_entry_gives_it(self, journals: JournalsOfJobs) -> None:
        """The jobs are given latest first: what an earlier one tells of the same key is forgotten."""
        one, two = journals.job_ids
        await (await journals.open(one)).save({"a": b"early", "b": b"early"})
        await (await journals.open(two)).save({"a": b"late"})
        taker = await journals.open(two, index=1)
        await taker.take_over([two, one], ["a", "b"])
        assert await taker.load() == {"a": b"late", "b": b"early"}
        assert await taker.load_of(one) == {}
        assert await taker.load_of(two) == {1: {"a": b"late", "b": b"early"}}

    async def test_a_closed_attempt_takes_nothing_over(self, journals: JournalsOfJobs) -> None:
        """The entries stay where they are, for the later one."""
        one, two = journals.job_ids
        await (await journals.open(one)).save({"a": b"x"})
        first = await journals.open(two)
        await journals.open(two, attempt=2)
        with pytest.raises(LeaseLost, match="attempt 1 is closed"):
            await first.take_over([one], ["a"])
        assert await first.load_of(one) == {0: {"a": b"x"}}

    async def test_a_closed_attempt_saves_nothing(self, journals: JournalsOfJobs) -> None:
        """Once a later attempt is open, the earlier one has lost its lease, whether anybody has taken the later."""
        job_id = journals.job_ids[0]
        first = await journals.open(job_id)
        await first.save({"a": b"1"})
        second = await journals.open(job_id, attempt=2)
        for entries in ({"a": b"late"}, {"a": None}, {"b": b"late"}, {}):
            with pytest.raises(LeaseLost, match=f"instance 0 of job {job_id}: attempt 1 is closed"):
                await first.save(entries)
        assert await second.load() == {"a": b"1"}
        await second.save({"a": b"2"})
        assert await second.load() == {"a": b"2"}

    async def test_what_the_next_attempt_has_loaded_is_all(self, journals: JournalsOfJobs) -> None:
        """However an attempt's saves and the opening of the next one meet, no save comes after the load."""
        job_id = journals.job_ids[0]
        attempt = await journals.open(job_id)
        for number in range(2, 8):
            saving = [asyncio.create_task(attempt.save({f"{number}-{save}": b"x"})) for save in range(4)]
            attempt = await journals.open(job_id, attempt=number)
            loaded = dict(await attempt.load())
            ends = await asyncio.gather(*saving, return_exceptions=True)
            assert await attempt.load() == loaded
            kept = [f"{number}-{save}" for save, end in enumerate(ends) if not isinstance(end, LeaseLost)]
            assert [key for key in sorted(loaded) if key.startswith(f"{number}-")] == kept
