"""The messages of the text example: repeatable, and as awkward as promised."""

import json

from examples.text_join.generate_tickets import TOPICS, tickets


def test_the_same_messages_come_every_time() -> None:
    """A longer run begins with the messages of a shorter one."""
    assert list(tickets(50)) == list(tickets(80))[:50]
    assert list(tickets(5)) != list(tickets(5, seed=8))


def test_messages_have_what_breaks_careless_programs() -> None:
    """Each topic is there, ids are unique, and the texts need every escape of JSON."""
    found = list(tickets(500))
    assert {it["topic"] for it in found} == set(TOPICS)
    assert len({it["id"] for it in found}) == 500
    text = "".join(json.dumps(it, ensure_ascii=False) for it in found)
    for awkward in ("\\n", "\\t", '\\"', "\\\\", "…", "😡", "李", "ễ"):
        assert awkward in text
