"""Read a multipart/form-data body as browsers upload files: small fields, then one file that is not held in memory.

Source:
    RFC 7578; "POST Object", S3 API reference: "The file or content must be the last field in the form. Any fields below
    it are ignored."
"""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from millrace.protocol.faults import IncompleteBody, MalformedRequest
from millrace.protocol.message import Body

__all__ = ["MAX_FIELDS_BYTES", "FileField", "Form", "find_boundary", "read_form"]

MAX_FIELDS_BYTES = 20_480
"""Bytes before the file's content at most; S3's own limit."""

_BOUNDARY = re.compile(r'multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(r'(?:^|;)\s*name="((?:[^"\\]|\\.)*)"')
_FILE_NAME = re.compile(r'(?:^|;)\s*filename="((?:[^"\\]|\\.)*)"')


def find_boundary(content_type: str | None) -> bytes | None:
    """Return the boundary of a form with files, or None for another media type."""
    match = _BOUNDARY.match(content_type or "")
    return None if match is None else (match[1] or match[2]).encode("latin-1")


@dataclass(frozen=True, slots=True)
class Form:
    """Fields by name in lower case, and the file that follows them."""

    fields: Mapping[str, str]
    file: "FileField"


class FileField:
    """The file of a form: a Body whose length only its end tells."""

    def __init__(self, name: str, source: "_Source", end: bytes) -> None:
        self.name = name
        self.length: int | None = None
        self.trailers: dict[str, str] = {}
        self._source = source
        self._end = end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        source, end = self._source, self._end
        while True:
            cut = source.pending.find(end)
            # What may be the start of the end is kept back.
            ready = cut if cut >= 0 else max(0, len(source.pending) - len(end) + 1)
            if ready:
                chunk = bytes(source.pending[:ready])
                del source.pending[:ready]
                yield chunk
            if cut >= 0:
                return
            await source.receive()

    async def read(self, limit: int) -> bytes:
        raise NotImplementedError("the file of a form is only streamed")


class _Source:
    """The bytes that have been received and not been taken yet."""

    def __init__(self, body: Body) -> None:
        self.pending = bytearray()
        self._chunks = aiter(body)

    async def receive(self) -> None:
        try:
            self.pending += await anext(self._chunks)
        except StopAsyncIteration:
            raise IncompleteBody("the form ends before its last boundary") from None


async def read_form(body: Body, boundary: bytes) -> Form:
    """Read the fields of a form up to the content of its file.

    Raises:
        MalformedRequest: It is no such form, has no file, or its fields are too large.
        IncompleteBody: It ends too early.
    """
    source = _Source(body)
    mark = b"--" + boundary
    await _skip(source, mark)
    fields: dict[str, str] = {}
    size = 0
    while True:
        head = await _until(source, b"\r\n\r\n", MAX_FIELDS_BYTES - size)
        size += len(head)
        if head.startswith(b"--"):
            raise MalformedRequest("POST requires exactly one file upload per request.")
        disposition = _disposition(head)
        name, file_name = _NAME.search(disposition), _FILE_NAME.search(disposition)
        if name is None:
            raise MalformedRequest("a part of the form has no name")
        if name[1].lower() == "file":
            # Old browsers send the whole path.
            plain = "" if file_name is None else _unquoted(file_name[1]).replace("\\", "/").rpartition("/")[2]
            return Form(fields, FileField(plain, source, b"\r\n" + mark))
        value = await _until(source, b"\r\n" + mark, MAX_FIELDS_BYTES - size)
        size += len(value)
        try:
            fields[name[1].lower()] = value.decode()
        except UnicodeDecodeError:
            raise MalformedRequest(f"the field {name[1]!r} of the form is no UTF-8") from None


async def _skip(source: _Source, mark: bytes) -> None:
    """Pass the first boundary, and what may stand before it."""
    await _until(source, mark, MAX_FIELDS_BYTES)


async def _until(source: _Source, end: bytes, limit: int) -> bytes:
    while (cut := source.pending.find(end)) < 0:
        if len(source.pending) > limit:
            raise MalformedRequest(f"the fields of a form may have at most {MAX_FIELDS_BYTES} bytes")
        if source.pending.startswith(b"--\r\n") and end == b"\r\n\r\n":
            raise MalformedRequest("POST requires exactly one file upload per request.")
        await source.receive()
    if cut > limit:
        raise MalformedRequest(f"the fields of a form may have at most {MAX_FIELDS_BYTES} bytes")
    found = bytes(source.pending[:cut])
    del source.pending[: cut + len(end)]
    return found


def _disposition(head: bytes) -> str:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            return value.decode("utf-8", "replace")
    return ""


def _unquoted(text: str) -> str:
    return text.replace("%22", '"').replace('\\"', '"')
