"""Rows of a table whose records are left out of its output."""

import pytest

from millrace.dataplane.formats.absent_rows import ABSENT_ROW, AbsentRows


@pytest.mark.parametrize(
    ("media_type", "block", "filled"),
    [
        ("text/csv", b'1,"a\nb"\n%s\n\n2,c\n%s\n', b'1,"a\nb"\n""\n2,c\n""\n'),
        ("application/jsonlines", b'{"a":1}\n%s\n2\n%s\n', b'{"a":1}\nnull\n2\nnull\n'),
    ],
)
def test_absent_rows_keep_their_place(media_type: str, block: bytes, filled: bytes) -> None:
    """They are rows of nulls among the answers, and are told apart from others when those join the input."""
    absent = AbsentRows(media_type)
    assert absent.fill(b"1\n", 1) == b"1\n"
    assert absent.fill(block % (ABSENT_ROW, ABSENT_ROW), 2) == filled
    assert absent.present(1, 2) is None
    assert absent.present(3, 2) == [False, True]
    assert absent.present(5, 3) == [False, True, True]
    assert absent.present(8, 3) is None
