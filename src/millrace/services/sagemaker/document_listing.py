"""List operations of resources that are plain documents."""

from collections.abc import Callable, Sequence
from typing import Any

from millrace.moments import to_micros
from millrace.ports.documents import Document
from millrace.protocol.message import Params
from millrace.services.sagemaker.paging import DEFAULT_PAGE, parse_token, print_token
from millrace.services.sagemaker.told_times import told_after, told_before

__all__ = ["list_documents"]


def list_documents(documents: Sequence[Document], params: Params) -> tuple[list[Document], str | None]:
    """Filter, sort and page documents by a List request; return the page and the next token."""
    chosen = [document for document in documents if _matches(document, params)]
    by_name = params.get("SortBy", "CreationTime") == "Name"
    key = _name_key if by_name else _time_key
    descending = params.get("SortOrder", "Descending") == "Descending"
    chosen.sort(key=key, reverse=descending)
    after = parse_token(params, *((str, int) if by_name else (int, str)))
    if after is not None:
        chosen = [it for it in chosen if (key(it) < after if descending else key(it) > after)]
    limit = params.get("MaxResults", DEFAULT_PAGE)
    page = chosen[:limit]
    return page, print_token(key(page[-1]) if len(chosen) > limit else None, params)


def _matches(document: Document, params: Params) -> bool:
    tests: list[tuple[str, Callable[[Any], bool]]] = [
        ("NameContains", lambda part: part.lower() in document.name.lower()),
        ("CreationTimeAfter", lambda moment: document.created_at > told_after(moment)),
        ("CreationTimeBefore", lambda moment: document.created_at < told_before(moment)),
        ("LastModifiedTimeAfter", lambda moment: document.modified_at > told_after(moment)),
        ("LastModifiedTimeBefore", lambda moment: document.modified_at < told_before(moment)),
    ]
    return all(test(params[member]) for member, test in tests if params.get(member) is not None)


def _name_key(document: Document) -> tuple[Any, Any]:
    return document.name, 0


def _time_key(document: Document) -> tuple[Any, Any]:
    return to_micros(document.created_at), document.name
