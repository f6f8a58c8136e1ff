"""The XML codec: shapes to and from XML documents, read safely. It knows no HTTP."""

import re
from collections.abc import Callable, Collection
from typing import Any
from xml.parsers import expat

from millrace.protocol.timestamps import TimestampFormat
from millrace.protocol.wire_values import BadValue, Reader, text_reader, text_writer

__all__ = [
    "DECLARATION",
    "MAX_DEPTH",
    "Markup",
    "Node",
    "Write",
    "XmlReaders",
    "XmlWriters",
    "escape",
    "is_plain",
    "parse_document",
]

MAX_DEPTH = 100
"""Nesting of elements beyond which a document is refused; no shape that we serve comes near it."""

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'

Write = Callable[[Any, list[str]], None]
"""Appends the text of a value to a list of pieces."""

_SPECIAL = re.compile(r"[&<>\"\r\x00-\x08\x0b\x0c\x0e-\x1f]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


class Node:
    """One element. Namespace prefixes are cut from its tag, not from its attributes (`xsi:type` is modelled so)."""

    __slots__ = ("attributes", "children", "pieces", "tag")

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Node] = []
        self.pieces: list[str] = []

    @property
    def text(self) -> str:
        """The element's own text."""
        return "".join(self.pieces)

    def find(self, tag: str) -> "Node | None":
        """Return the first child of that tag."""
        for child in self.children:
            if child.tag == tag:
                return child
        return None


class _Builder:
    """Collects expat's events into Nodes; refuses document types, hence entities, and deep nesting."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[Node] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        node = Node(tag.rpartition(":")[2], attributes)
        if len(self._open) >= MAX_DEPTH:
            raise BadValue(f"XML must nest at most {MAX_DEPTH} elements deep")
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)

    def end(self, _tag: str) -> None:
        self._open.pop()

    def text(self, piece: str) -> None:
        if self._open:
            self._open[-1].pieces.append(piece)

    def doctype(self, *_facts: object) -> None:
        raise BadValue("XML must not contain a document type declaration or entities")


def parse_document(content: bytes) -> Node:
    """Parse a document into its root.

    Raises:
        BadValue: It is not well-formed, declares a document type or entities, or nests too deep.
    """
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = builder.doctype
    parser.EntityDeclHandler = builder.doctype
    try:
        parser.Parse(content, True)
    except expat.ExpatError as exc:
        raise BadValue(f"expected an XML document: {exc}") from None
    except (LookupError, ValueError) as exc:
        if isinstance(exc, BadValue):
            raise
        raise BadValue(f"expected an XML document: {exc}") from None
    if builder.root is None:
        raise BadValue("expected an XML document, got nothing")
    return builder.root


def _escape_one(match: re.Match[str]) -> str:
    character = match[0]
    # A carriage return would come back as a line feed; control characters are written as S3 writes them.
    return _NAMED.get(character) or f"&#x{ord(character):X};"


def escape(text: str) -> str:
    """Return the text as it stands in an element or attribute."""
    return _SPECIAL.sub(_escape_one, text)


def is_plain(text: str) -> bool:
    """Tell whether `escape` would return the text as it is."""
    return _SPECIAL.search(text) is None


class Markup(str):
    """Elements that stand for all entries of a list without an element around it, printed by who made the result."""

    __slots__ = ()


class XmlReaders:
    """Builds, once per shape, the function that turns a Node into parameters; elements unknown to it are ignored."""

    def __init__(self) -> None:
        self._structures: dict[str, Reader] = {}

    def reader(self, shape: Any) -> Reader:
        """Return the reader of a shape, for the Node that holds it."""
        kind = shape.type_name
        if kind == "structure":
            return self._structure(shape)
        if kind == "list":
            element = self.reader(shape.member)
            tag = shape.member.serialization.get("name", "member")
            return lambda node: [element(child) for child in node.children if child.tag == tag]
        if kind == "map":
            entries = self._entries(shape)
            return lambda node: entries([child for child in node.children if child.tag == "entry"])
        scalar = text_reader(shape)
        if kind == "string":
            return lambda node: node.text
        return lambda node: scalar(node.text.strip())

    def members_reader(self, shape: Any, names: Collection[str]) -> Reader:
        """Return a reader of some members of a structure only: those that stand in the body."""
        plan = [(name, self._member(name, shape.members[name])) for name in names]
        return _structure_reader(plan)

    def _structure(self, shape: Any) -> Reader:
        known = self._structures.get(shape.name)
        if known is not None:
            return known
        plan: list[tuple[str, Reader]] = []
        self._structures[shape.name] = reader = _structure_reader(plan)
        plan.extend((name, self._member(name, member)) for name, member in shape.members.items())
        return reader

    def _member(self, name: str, shape: Any) -> Reader:
        """Return the function from the parent's Node to this member, or None if it is absent."""
        traits = shape.serialization
        tag = traits.get("name", name)
        if traits.get("xmlAttribute"):
            scalar = text_reader(shape)
            return lambda node: scalar(node.attributes[tag]) if tag in node.attributes else None
        if traits.get("flattened"):
            if shape.type_name == "map":
                entries = self._entries(shape)
                return lambda node: entries([child for child in node.children if child.tag == tag]) or None
            element = self.reader(shape.member)
            # botocore writes the list's own name and reads the member's: take either.
            tags = {tag, shape.member.serialization.get("name", tag)}
            return lambda node: [element(child) for child in node.children if child.tag in tags] or None
        reader = self.reader(shape)

        def read(node: Node) -> Any:
            child = node.find(tag)
            return None if child is None else reader(child)

        return read

    def _entries(self, shape: Any) -> Callable[[list[Node]], dict[str, Any]]:
        key_tag = shape.key.serialization.get("name", "key")
        value_tag = shape.value.serialization.get("name", "value")
        value_reader = self.reader(shape.value)

        def read(nodes: list[Node]) -> dict[str, Any]:
            result = {}
            for node in nodes:
                key, value = node.find(key_tag), node.find(value_tag)
                if key is None or value is None:
                    raise BadValue(f"expected {key_tag} and {value_tag} in {node.tag}")
                result[key.text] = value_reader(value)
            return result

        return read


def _structure_reader(plan: list[tuple[str, Reader]]) -> Reader:
    def read(node: Node) -> dict[str, Any]:
        result = {}
        name = ""
        try:
            for name, reader in plan:
                value = reader(node)
                if value is not None:
                    result[name] = value
        except BadValue as bad:
            bad.path.append(name)
            raise
        return result

    return read


_NEVER_SPECIAL = frozenset({"boolean", "double", "float", "integer", "long", "timestamp"})
"""Kinds of scalars whose text has nothing to escape."""


class XmlWriters:
    """Builds, once per shape, the function that writes a result as XML; unknown members and None are left out."""

    def __init__(self, timestamps: TimestampFormat) -> None:
        self._timestamps = timestamps
        self._contents: dict[str, Write] = {}

    def element(self, shape: Any, tag: str) -> Write:
        """Return the writer of a whole element that holds a value of this shape."""
        start = f"<{tag}{_namespace(shape)}"
        end = f"</{tag}>"
        if shape.type_name in ("structure", "list", "map"):
            return self._container(shape, start, end)
        scalar = text_writer(shape, self._timestamps)
        start += ">"

        def write(value: Any, out: list[str]) -> None:
            out.append(f"{start}{escape(scalar(value))}{end}")

        def write_plain(value: Any, out: list[str]) -> None:
            out.append(f"{start}{scalar(value)}{end}")

        return write_plain if shape.type_name in _NEVER_SPECIAL else write

    def members(self, shape: Any, names: Collection[str]) -> Write:
        """Return a writer of some members of a structure, without an element around them."""
        plan: dict[str, Write] = {}
        self._fill(plan, shape, names)
        return _members_writer(plan)

    def _container(self, shape: Any, start: str, end: str) -> Write:
        content = self._content(shape)
        attributes = self._attributes(shape)

        def write(value: Any, out: list[str]) -> None:
            out.append(start)
            for name, attribute, text in attributes:
                if value.get(name) is not None:
                    out.append(f' {attribute}="{escape(text(value[name]))}"')
            out.append(">")
            content(value, out)
            out.append(end)

        return write

    def _attributes(self, shape: Any) -> list[tuple[str, str, Callable[[Any], str]]]:
        if shape.type_name != "structure":
            return []
        return [
            (name, member.serialization.get("name", name), text_writer(member, self._timestamps))
            for name, member in shape.members.items()
            if member.serialization.get("xmlAttribute")
        ]

    def _content(self, shape: Any) -> Write:
        if shape.type_name == "structure":
            return self._structure(shape)
        if shape.type_name == "list":
            return _repeat(self.element(shape.member, shape.member.serialization.get("name", "member")))
        return self._entries(shape, "entry")

    def _structure(self, shape: Any) -> Write:
        known = self._contents.get(shape.name)
        if known is not None:
            return known
        plan: dict[str, Write] = {}
        self._contents[shape.name] = write = _members_writer(plan)
        self._fill(plan, shape, shape.members)
        return write

    def _fill(self, plan: dict[str, Write], shape: Any, names: Collection[str]) -> None:
        for name in names:
            member = shape.members[name]
            if not member.serialization.get("xmlAttribute"):
                plan[name] = self._member(name, member)

    def _member(self, name: str, shape: Any) -> Write:
        tag = shape.serialization.get("name", name)
        if not shape.serialization.get("flattened"):
            return self.element(shape, tag)
        if shape.type_name == "map":
            return self._entries(shape, tag)
        return _repeat(self.element(shape.member, shape.member.serialization.get("name", tag)))

    def _entries(self, shape: Any, tag: str) -> Write:
        key = self.element(shape.key, shape.key.serialization.get("name", "key"))
        entry = self.element(shape.value, shape.value.serialization.get("name", "value"))

        def write(value: Any, out: list[str]) -> None:
            for name, element in value.items():
                out.append(f"<{tag}>")
                key(name, out)
                entry(element, out)
                out.append(f"</{tag}>")

        return write


def _namespace(shape: Any) -> str:
    namespace = shape.serialization.get("xmlNamespace")
    if not namespace:
        return ""
    uri = namespace["uri"] if isinstance(namespace, dict) else namespace
    prefix = namespace.get("prefix") if isinstance(namespace, dict) else None
    return f' xmlns{":" + prefix if prefix else ""}="{escape(uri)}"'


def _repeat(element: Write) -> Write:
    def write(value: Any, out: list[str]) -> None:
        if type(value) is Markup:
            out.append(value)
            return
        for entry in value:
            element(entry, out)

    return write


def _members_writer(plan: dict[str, Write]) -> Write:
    def write(value: Any, out: list[str]) -> None:
        for name, entry in value.items():
            if entry is not None and (writer := plan.get(name)) is not None:
                writer(entry, out)

    return write
