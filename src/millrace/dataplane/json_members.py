"""Filter and join records of JSON by the text of their members, of which no more is parsed than is looked at. Pure.

Theory. Where a filter takes a member whole, and for a record that is joined to an answer, it is enough to find where
the text of a member begins and ends, which msgspec does at twice the speed of parsing it, checking the rest of the
record as it goes by. A frame is what an answer is joined with: the text before it and behind it. What can't be told in
this way at all is None, and left to the way that parses whole records, which words the errors too.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import orjson

from millrace.dataplane.json_text import (
    all_written,
    canonical,
    is_worth_searching,
    keys_of,
    may_nest_deeply,
    members_of,
    written,
)
from millrace.dataplane.jsonpath import Filter, FilterError
from millrace.dataplane.rows import RowError, parse_json, serialize_json

__all__ = ["Frame", "JsonMembers"]

Frame = tuple[bytes, bytes | None]
"""What stands before the answer and behind it in a joined row; None behind if the row has no answer in it."""

_Found = Any
"""What was found of an object: the decoder makes a class of its own for each set of names."""

_Text = Callable[[_Found], msgspec.Raw]

_Sender = Callable[[list[bytes], bool], tuple[bytes, list[Frame]] | None]

STEP_RECORDS = 1024
"""Records whose members are found before they are written: what was found takes more memory than small records."""

_OUTPUT = "SageMakerOutput"
_NOT_TOLD = (msgspec.MsgspecError, RecursionError, RowError, FilterError)


class JsonMembers:
    """What a job's filters and its join do to the text of records; made once per job.

    Records and answers are lines of UTF-8 without their ends: whoever calls has looked.
    """

    def __init__(self, input_filter: Filter, output_filter: Filter, *, joins: bool) -> None:
        self.sent: Callable[[bytes], bytes | None] | None = _selection(input_filter)
        """Returns what is sent of a record; None if only parsing whole records can tell."""
        self.framed: Callable[[bytes], Frame | None] | None = _framing(output_filter) if joins else None
        """Returns the frame of a record."""
        self.answered: Callable[[bytes], bytes | None] | None = (
            _answer_in_join(output_filter) if joins else _selection(output_filter)
        )
        """Returns what is written of an answer: in its frame, or alone if nothing is joined."""
        self.all_sent = _all_sent(input_filter, output_filter if joins else None)
        """Returns what is sent of records, as lines, and their frames if wanted and if the same pass gives them."""


# -- filters


def _selection(chosen: Filter) -> Callable[[bytes], bytes | None] | None:
    """Return what gives the text that a filter selects of an object; None for filters that take no members of it."""
    names = chosen.members
    if names is None:
        return None
    decode, texts = _reader(names)
    write = _writer(chosen, texts)

    def select(record: bytes) -> bytes | None:
        if may_nest_deeply(record):
            return None
        try:
            return write(decode(record))
        except _NOT_TOLD:
            return None

    return select


def _reader(names: Sequence[str]) -> tuple[Callable[[bytes], _Found], Mapping[str, _Text]]:
    """Return what finds the members that an object must have, and what gives the text of each.

    The former raises MsgspecError.
    """
    fields = {f"member_{place}": name for place, name in enumerate(names)}
    kind = msgspec.defstruct("Members", [(field, msgspec.Raw) for field in fields], rename=fields, gc=False)
    return msgspec.json.Decoder(kind).decode, {name: attrgetter(field) for field, name in fields.items()}


def _writer(chosen: Filter, texts: Mapping[str, _Text]) -> Callable[[_Found], bytes]:
    """Return what writes the row of a filter from members that were found; it raises RowError and FilterError."""
    names = sorted(chosen.members or ())
    if not chosen.takes_one:
        keys = [(key, texts[name]) for key, name in zip(keys_of(names, b"{"), names, strict=True)]
        return lambda found: b"".join([key + written(bytes(text(found))) for key, text in keys] + [b"}"])
    one, further = texts[names[0]], chosen.behind_first
    if further.is_identity:
        return lambda found: written(bytes(one(found)))
    return lambda found: serialize_json(further.select(parse_json(bytes(one(found)))))


# -- joins


def _framing(chosen: Filter) -> Callable[[bytes], Frame | None] | None:
    """Return what gives the frame of a record; None if its rows are to be parsed."""
    if chosen.is_identity:
        return _framed_whole
    names = chosen.members
    if names is None:
        return None
    decode, texts = _reader([name for name in names if name != _OUTPUT])
    frame = _framer(chosen, texts)

    def framed(record: bytes) -> Frame | None:
        if may_nest_deeply(record):
            return None
        try:
            return frame(decode(record))
        except _NOT_TOLD:
            return None

    return framed


def _framer(chosen: Filter, texts: Mapping[str, _Text]) -> Callable[[_Found], Frame]:
    """Return what makes a frame from members that were found; it raises RowError and FilterError."""
    names = sorted(chosen.members or ())
    if _OUTPUT not in names:
        write = _writer(chosen, texts)
        return lambda found: (write(found), None)
    if chosen.takes_one:
        return lambda _: (b"", b"")
    keys = dict(zip(names, keys_of(names, b"{"), strict=True))
    opening = keys[_OUTPUT]
    before = [(keys[name], texts[name]) for name in names if name < _OUTPUT]
    behind = [(keys[name], texts[name]) for name in names if name > _OUTPUT]
    if len(behind) == 1 and not before:  # as most do
        [(key, text)] = behind
        return lambda found: (opening, b"%b%b}" % (key, written(bytes(text(found)))))
    return lambda found: (
        b"".join([key + written(bytes(text(found))) for key, text in before] + [opening]),
        b"".join([key + written(bytes(text(found))) for key, text in behind] + [b"}"]),
    )


def _framed_whole(record: bytes) -> Frame | None:
    """Return the frame of a record of which the row has everything, if that takes less than parsing it."""
    if not is_worth_searching(record) or may_nest_deeply(record):
        return None
    if not record.lstrip().startswith(b"{"):
        text = canonical(record)
        return None if text is None else (b'{"SageMakerInput":%b,"SageMakerOutput":' % text, b"}")
    try:
        members = members_of(record)
        head: list[bytes] = [b"{"]
        tail: list[bytes] = []
        for name in sorted(members):
            if name < _OUTPUT:
                head += (orjson.dumps(name), b":", written(bytes(members[name])), b",")
            elif name != _OUTPUT:
                tail += (b",", orjson.dumps(name), b":", written(bytes(members[name])))
    except _NOT_TOLD:
        return None
    return b"".join([*head, b'"SageMakerOutput":']), b"".join([*tail, b"}"])


def _answer_in_join(chosen: Filter) -> Callable[[bytes], bytes | None]:
    """Return what writes an answer as it stands in its frame; it is looked at even if no row has it."""
    further = chosen.behind_first
    if chosen.members != (_OUTPUT,) or not chosen.takes_one or further.is_identity:
        return canonical

    def select(answer: bytes) -> bytes | None:
        try:
            return serialize_json(further.select(parse_json(answer)))
        except _NOT_TOLD:
            return None

    return select


# -- many records at a time


def _all_sent(input_filter: Filter, output_filter: Filter | None) -> _Sender | None:
    """Return what filters many records, and gives their frames if those too are made of members by name."""
    sent = input_filter.members
    if sent is None:
        return None
    kept = output_filter.members if output_filter is not None else None
    decode, texts = _reader(list(dict.fromkeys((*sent, *(name for name in kept or () if name != _OUTPUT)))))
    write, write_one = _lines_writer(input_filter, texts), _writer(input_filter, texts)
    frames, frame_one = None, None
    if output_filter is not None and kept is not None:
        frames, frame_one = _frames_maker(output_filter, texts), _framer(output_filter, texts)

    def send(records: list[bytes], wants_frames: bool) -> tuple[bytes, list[Frame]] | None:
        if any(map(may_nest_deeply, records)):
            return None
        try:
            if len(records) == 1:
                one = decode(records[0])
                framed = [frame_one(one)] if frame_one is not None and wants_frames else []
                return write_one(one) + b"\n", framed
            lines: list[bytes] = []
            framed = []
            for begin in range(0, len(records), STEP_RECORDS):
                found = list(map(decode, records[begin : begin + STEP_RECORDS]))
                lines.append(write(found))
                if frames is not None and wants_frames:
                    framed += frames(found)
        except _NOT_TOLD:
            return None
        return b"".join(lines), framed

    return send


def _lines_writer(chosen: Filter, texts: Mapping[str, _Text]) -> Callable[[list[_Found]], bytes]:
    """Return what writes a line for each record; it raises RowError and FilterError."""
    names = sorted(chosen.members or ())
    if not chosen.takes_one:
        row = _row_format(keys_of(names, b"{")) + b"}\n"
        return lambda found: b"".join([row % values for values in _columns([texts[name] for name in names], found)])
    if chosen.behind_first.is_identity:
        one = texts[names[0]]
        return lambda found: all_written(list(map(one, found)))[1] + b"\n"
    write = _writer(chosen, texts)
    return lambda found: b"\n".join([*map(write, found), b""])


def _frames_maker(chosen: Filter, texts: Mapping[str, _Text]) -> Callable[[list[_Found]], list[Frame]]:
    """Return what makes a frame for each record; it raises RowError and FilterError."""
    names = sorted(chosen.members or ())
    frame = _framer(chosen, texts)
    if chosen.takes_one or _OUTPUT not in names or names[0] != _OUTPUT or len(names) == 1:
        return lambda found: list(map(frame, found))
    opening, *keys = keys_of(names, b"{")
    tail = _row_format(keys) + b"}"
    behind = [texts[name] for name in names[1:]]
    return lambda found: [(opening, tail % values) for values in _columns(behind, found)]


def _row_format(keys: list[bytes]) -> bytes:
    return b"".join([key.replace(b"%", b"%%") + b"%b" for key in keys])


def _columns(texts: list[_Text], found: list[_Found]) -> "zip[tuple[bytes, ...]]":
    """Return the values of members, record by record, as they are written. Raises RowError."""
    return zip(*[all_written(list(map(text, found)))[0] for text in texts], strict=True)
