"""Name the drafts that belong together: of an output, and of what tells of its bad records. Pure."""

__all__ = ["drafts_beside", "errors_draft", "packed_draft"]

_PACKED = "-packed"


def packed_draft(draft: str) -> str:
    """Return the name of the draft of compressed text, whose text is in a draft; another may be made of it."""
    return f"{draft}{_PACKED}"


def errors_draft(draft: str) -> str:
    """Return the name of the draft of what tells of bad records, whether an output's draft is packed or not."""
    return f"{draft.partition(_PACKED)[0]}-errors"


def drafts_beside(draft: str) -> tuple[str, ...]:
    """Return the names of all drafts that there may be with an output's, itself among them."""
    text = draft.partition(_PACKED)[0]
    return tuple(dict.fromkeys((draft, text, packed_draft(text), errors_draft(text))))
