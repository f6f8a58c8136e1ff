"""Filter and join rows of JSON by the text of their members, of which no more is parsed than is looked at. Pure.

Theory. A row is written in one way: no white space, members sorted at every level, strings with no more escapes than
they need, numbers as they came. Text without white space, escapes and objects is written that way already. So where a
filter takes a member whole, and for a record that is joined to an answer, it is enough to find where the text of a
member begins and ends, which msgspec does at twice the speed of parsing it, checking the rest of the record as it goes
by. What is not so is parsed, member by member. What can't be told in this way at all is None, and left to the way that
parses whole records, which words the errors too.
"""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import msgspec
import orjson

from millrace.dataplane.jsonpath import Filter, FilterError
from millrace.dataplane.rows import RowError, parse_json, serialize_json

__all__ = ["Frame", "JsonText", "is_text"]

Frame = tuple[bytes, bytes | None]
"""What stands before the answer and behind it in a joined row; None behind if the row has no answer in it."""

_Members = Any
"""What was found of an object: the decoder makes a class of its own for each set of names."""

_Text = Callable[[_Members], msgspec.Raw]

MOST_OPEN = 200
"""Brackets that may open in a record before somebody looks how deep they nest: what can be written has a limit."""

SHORT_BYTES = 200
"""Up to this size, an answer is parsed and printed as soon as its members are found."""

_INPUT, _OUTPUT = "SageMakerInput", "SageMakerOutput"
_QUOTE, _BRACE = ord('"'), ord("{")
_NOT_TOLD = (msgspec.MsgspecError, RecursionError, RowError, FilterError)

_whole = msgspec.json.Decoder(msgspec.Raw).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class JsonText:
    """What a job's filters and its join do to the text of one row; made once per job.

    Rows are UTF-8: whoever calls has looked, with `is_text`. The rows that are given have no line end.
    """

    def __init__(self, input_filter: Filter, output_filter: Filter, *, joins: bool) -> None:
        self.sent: Callable[[bytes], bytes | None] | None = _selection(input_filter)
        """Returns what is sent of a record; None if only parsing whole records can tell."""
        self.framed: Callable[[bytes], Frame | None] | None = _framing(output_filter) if joins else None
        """Returns what an answer to a record is joined with."""
        self.sent_and_framed = _sent_and_framed(input_filter, output_filter) if joins else None
        """Returns both, if that takes less than the one after the other."""
        self.answered: Callable[[bytes], bytes | None] | None = (
            _answer_in_join(output_filter) if joins else _selection(output_filter)
        )
        """Returns what is written of an answer: in its frame, or alone if nothing is joined."""


def is_text(body: bytes) -> bool:
    """Return whether a body is UTF-8."""
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


# -- filters


def _selection(chosen: Filter) -> Callable[[bytes], bytes | None] | None:
    """Return what gives the text that a filter selects of an object; None for filters that take no members of it."""
    names = chosen.members
    if names is None:
        return None
    decode, texts = _reader(names)
    write = _writer(chosen, texts)

    def select(record: bytes) -> bytes | None:
        if _may_nest_deeply(record):
            return None
        try:
            return write(decode(record))
        except _NOT_TOLD:
            return None

    return select


def _reader(names: tuple[str, ...]) -> tuple[Callable[[bytes], _Members], Mapping[str, _Text]]:
    """Return what finds the members that an object must have, and what gives the text of each.

    The former raises MsgspecError.
    """
    fields = {f"member_{place}": name for place, name in enumerate(names)}
    kind = msgspec.defstruct("Members", [(field, msgspec.Raw) for field in fields], rename=fields, gc=False)
    return msgspec.json.Decoder(kind).decode, {name: attrgetter(field) for field, name in fields.items()}


def _writer(chosen: Filter, texts: Mapping[str, _Text]) -> Callable[[_Members], bytes]:
    """Return what writes the row of a filter from members that were found; it raises RowError and FilterError."""
    names = sorted(chosen.members or ())
    if not chosen.takes_one:
        keys = [(key, texts[name]) for key, name in zip(_keys(names, b"{"), names, strict=True)]
        return lambda members: b"".join([key + _written(bytes(text(members))) for key, text in keys] + [b"}"])
    one, further = texts[names[0]], chosen.behind_first
    if further.is_identity:
        return lambda members: _written(bytes(one(members)))
    return lambda members: serialize_json(further.select(parse_json(bytes(one(members)))))


def _keys(names: list[str], opening: bytes) -> list[bytes]:
    """Return the names of members that follow each other, each with what stands before its value."""
    return [(b"," if number else opening) + orjson.dumps(name) + b":" for number, name in enumerate(names)]


# -- joins


def _framing(chosen: Filter) -> Callable[[bytes], Frame | None] | None:
    """Return what gives the frame of a record; None if its rows are to be parsed."""
    if chosen.is_identity:
        return _framed_whole
    names = chosen.members
    if names is None:
        return None
    decode, texts = _reader(tuple(name for name in names if name != _OUTPUT))
    frame = _framer(chosen, texts)

    def framed(record: bytes) -> Frame | None:
        if _may_nest_deeply(record):
            return None
        try:
            return frame(decode(record))
        except _NOT_TOLD:
            return None

    return framed


def _framer(chosen: Filter, texts: Mapping[str, _Text]) -> Callable[[_Members], Frame]:
    """Return what makes a frame from members that were found; it raises RowError and FilterError."""
    names = sorted(chosen.members or ())
    if _OUTPUT not in names:
        write = _writer(chosen, texts)
        return lambda members: (write(members), None)
    if chosen.takes_one:
        return lambda _: (b"", b"")
    keys = dict(zip(names, _keys(names, b"{"), strict=True))
    opening = keys[_OUTPUT]
    before = [(keys[name], texts[name]) for name in names if name < _OUTPUT]
    behind = [(keys[name], texts[name]) for name in names if name > _OUTPUT]
    if len(behind) == 1 and not before:  # as most do
        [(key, text)] = behind
        return lambda members: (opening, b"%b%b}" % (key, _written(bytes(text(members)))))
    return lambda members: (
        b"".join([key + _written(bytes(text(members))) for key, text in before] + [opening]),
        b"".join([key + _written(bytes(text(members))) for key, text in behind] + [b"}"]),
    )


def _framed_whole(record: bytes) -> Frame | None:
    """Return the frame of a record of which the row has everything."""
    if _may_nest_deeply(record):
        return None
    try:
        if record.lstrip().startswith(b"{"):
            return _framed_members(_members(record))
        return b'{"SageMakerInput":%b,"SageMakerOutput":' % _written(bytes(_whole(record))), b"}"
    except _NOT_TOLD:
        return None


def _framed_members(members: dict[str, msgspec.Raw]) -> Frame:
    head: list[bytes] = [b"{"]
    tail: list[bytes] = []
    for name in sorted(members):
        if name < _OUTPUT:
            head += (orjson.dumps(name), b":", _written(bytes(members[name])), b",")
        elif name != _OUTPUT:
            tail += (b",", orjson.dumps(name), b":", _written(bytes(members[name])))
    head.append(b'"SageMakerOutput":')
    tail.append(b"}")
    return b"".join(head), b"".join(tail)


def _sent_and_framed(
    input_filter: Filter, output_filter: Filter
) -> Callable[[list[bytes]], tuple[list[bytes], list[Frame]] | None] | None:
    """Return what finds the members for both filters at once; None if one of them takes no members, or all of them."""
    sent, written = input_filter.members, output_filter.members
    if sent is None or written is None:
        return None
    decode, texts = _reader(tuple(dict.fromkeys((*sent, *(name for name in written if name != _OUTPUT)))))
    write, frame = _writer(input_filter, texts), _framer(output_filter, texts)

    def both(records: list[bytes]) -> tuple[list[bytes], list[Frame]] | None:
        bodies, frames = [], []
        try:
            for record in records:
                if _may_nest_deeply(record):
                    return None
                members = decode(record)
                bodies.append(write(members))
                frames.append(frame(members))
        except _NOT_TOLD:
            return None
        return bodies, frames

    return both


def _answer_in_join(chosen: Filter) -> Callable[[bytes], bytes | None] | None:
    """Return what writes an answer as it stands in its frame; it is looked at even if no row has it."""
    if chosen.takes_one and chosen.members == (_OUTPUT,) and not chosen.behind_first.is_identity:
        further = chosen.behind_first

        def select(answer: bytes) -> bytes | None:
            try:
                return serialize_json(further.select(parse_json(answer)))
            except _NOT_TOLD:
                return None

        return select
    return _canonical


# -- text


def _canonical(document: bytes) -> bytes | None:
    """Return a document as it is written; None if only parsing it can tell, or if it is none."""
    if len(document) <= SHORT_BYTES:
        return _same_when_printed(document)
    if _may_nest_deeply(document):
        return None
    try:
        if not document.lstrip().startswith(b"{"):
            return _written(bytes(_whole(document)))
        members = _members(document)
        names = sorted(members)
        pairs = zip(_keys(names, b""), names, strict=True)
        return b"{%b}" % b"".join([b"%b%b" % (key, _written(bytes(members[name]))) for key, name in pairs])
    except _NOT_TOLD:
        return None


def _same_when_printed(document: bytes) -> bytes | None:
    try:
        printed = orjson.dumps(orjson.loads(document), option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError):
        return None
    return document if printed == document else None


def _written(text: bytes) -> bytes:
    """Return the text of a value that is known to be one, and has no line feed, as it is written. Raises RowError."""
    if text.isalnum():  # a whole number, true, false or null
        return text
    if b'"' not in text:  # there are no strings in it, and no objects with members
        if b" " not in text and b"\t" not in text and b"\r" not in text:
            return text
    elif text[0] == _QUOTE:
        if b"\\" not in text:
            return text
    elif text[0] != _BRACE and not (b" " in text or b"{" in text or b"\\" in text or b"\t" in text or b"\r" in text):
        return text
    return serialize_json(parse_json(text))


def _may_nest_deeply(document: bytes) -> bool:
    """Return False if a document surely nests less than MOST_OPEN deep."""
    if len(document) <= 2 * MOST_OPEN:
        return False
    # Leaving a byte that is rare out of a copy is quicker than counting it.
    opening = 2 * len(document) - len(document.replace(b"[", b"")) - len(document.replace(b"{", b""))
    if opening < MOST_OPEN:
        return False
    # Rows of a matrix: where one closes as the next one opens, it is no deeper behind than before.
    return opening - document.count(b"],[") - document.count(b"},{") >= MOST_OPEN
