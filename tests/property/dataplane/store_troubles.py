"""Where a store fails, and how."""

from collections.abc import Iterable

from hypothesis import strategies as st

from millrace.testing.faulty_objects import Step, Trouble, disk_full, input_output_error

__all__ = ["store_troubles"]


def store_troubles(
    steps: Iterable[Step], *, within: int, most: int
) -> st.SearchStrategy[dict[tuple[Step, int], Trouble]]:
    """Troubles of up to `most` of the first `within` times that steps are taken; who only reads finds no full disk."""

    def trouble(step: Step) -> st.SearchStrategy[tuple[tuple[Step, int], Trouble]]:
        kinds = [input_output_error] if step in (Step.LIST, Step.READ) else [disk_full, input_output_error]
        return st.tuples(st.tuples(st.just(step), st.integers(0, within)), st.sampled_from(kinds))

    return st.lists(st.sampled_from(list(steps)).flatmap(trouble), max_size=most).map(dict)
