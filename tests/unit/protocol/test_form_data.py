"""Forms with files: the same whatever pieces they arrive in, and refused when they break the rules."""

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.protocol.faults import IncompleteBody, MalformedRequest
from millrace.protocol.form_data import MAX_FIELDS_BYTES, find_boundary, read_form

FORM = (
    b'preamble\r\n--XX\r\nContent-Disposition: form-data; name="Key"\r\n\r\na/${filename}\r\n'
    b'--XX\r\nContent-Disposition: form-data; name="acl"\r\nContent-Type: text/plain\r\n\r\nprivate\r\n'
    b'--XX\r\nContent-Disposition: form-data; name="file"; filename="C:\\dir\\b.txt"\r\n\r\n%b\r\n--XX--\r\n'
)


class Pieces:
    """A body that arrives in pieces."""

    length = None

    def __init__(self, content: bytes, cuts: list[int]) -> None:
        marks = sorted({0, *(cut % (len(content) + 1) for cut in cuts), len(content)})
        self._pieces = [content[start:end] for start, end in pairwise(marks)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def read(self, limit: int) -> bytes:
        return b"".join(self._pieces)


@given(content=st.binary(max_size=200).map(lambda it: it.replace(b"--XX", b"")), cuts=st.lists(st.integers(0, 1000)))
async def test_pieces_make_no_difference(content: bytes, cuts: list[int]) -> None:
    """Fields and file come out as they were sent, whatever the file holds and wherever the pieces are cut."""
    form = await read_form(Pieces(FORM.replace(b"%b", content), cuts), b"XX")
    assert form.fields == {"key": "a/${filename}", "acl": "private"}
    assert form.file.name == "b.txt"
    assert b"".join([chunk async for chunk in form.file]) == content


async def test_a_form_that_ends_too_early_is_incomplete() -> None:
    """Also in the middle of its file, after what has come was handed on."""
    with pytest.raises(IncompleteBody):
        await read_form(Pieces(FORM[:60], []), b"XX")
    form = await read_form(Pieces(FORM.replace(b"%b", b"x" * 100).removesuffix(b"--\r\n")[:-4], []), b"XX")
    with pytest.raises(IncompleteBody):
        assert [chunk async for chunk in form.file]


async def test_fields_are_bounded_and_a_file_is_needed() -> None:
    """Nothing is held in memory for long: a form has 20 KB of fields at most."""
    with pytest.raises(MalformedRequest, match=f"at most {MAX_FIELDS_BYTES} bytes"):
        await read_form(Pieces(FORM.replace(b"private", b"x" * MAX_FIELDS_BYTES), [5000, 10_000]), b"XX")
    without_file = FORM[: FORM.index(b'--XX\r\nContent-Disposition: form-data; name="file"')] + b"--XX--\r\n"
    with pytest.raises(MalformedRequest, match="exactly one file"):
        await read_form(Pieces(without_file, []), b"XX")


def test_only_forms_with_files_have_a_boundary() -> None:
    """Quoted or not."""
    assert find_boundary("multipart/form-data; boundary=abc") == b"abc"
    assert find_boundary('multipart/form-data; charset=utf-8; boundary="a b"') == b"a b"
    assert find_boundary("application/x-www-form-urlencoded") is None
    assert find_boundary(None) is None
