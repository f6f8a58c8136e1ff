"""What is held between containers is bounded, and never a deadlock."""

from hypothesis import given
from hypothesis import strategies as st

from millrace.agents.chain_room import Room

LIMIT = 100


class Reader:
    """Reads until it is told not to."""

    def __init__(self) -> None:
        self.reads = True
        self.held = 0

    def go_on(self) -> None:
        self.reads = True


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["read", "read", "pass on", "leave"])), max_size=80))
def test_somebody_may_always_read_and_nobody_reads_beyond_the_limit(steps: list[tuple[int, str]]) -> None:
    """But for the one that has held something for longest: others stop with the piece that finds no room."""
    room = Room(LIMIT)
    readers = [Reader() for _ in range(5)]
    order: list[Reader] = []
    for number, step in steps:
        reader = readers[number]
        if step == "read" and reader.reads:
            if reader not in order:
                order.append(reader)
            reader.held += 30
            reader.reads = room.take(reader, 30)
            assert reader.reads == (room.held <= LIMIT or reader is order[0])
        elif step == "pass on" and reader in order:
            size, reader.held = reader.held, 0
            room.give_back(reader, size)
        elif step == "leave":
            if reader in order:
                order.remove(reader)
            reader.held, reader.reads = 0, True
            room.leave(reader)
        assert room.held == sum(it.held for it in readers)
        assert not order or order[0].reads
        assert room.held > LIMIT or all(it.reads for it in readers)


def test_those_who_wait_go_on_in_turn() -> None:
    """Once there is room for them."""
    room = Room(LIMIT)
    first, second = Reader(), Reader()
    assert room.take(first, 90)
    second.reads = room.take(second, 20)
    assert not second.reads
    room.leave(first)
    assert second.reads
    assert room.held == 20
