"""Match events with the unstructured filter patterns of CloudWatch Logs.

    ERROR timeout       both terms occur
    ?ERROR ?WARN        at least one of them occurs
    -DEBUG              it does not occur
    "two words"         the phrase occurs; a backslash escapes a quote

Terms are looked for anywhere in the text; upper and lower case differ. Patterns over JSON (`{ $.x = 1 }`), over columns
(`[a, b]`) and regular expressions (`%x%`) are refused by name rather than taken for text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from millrace.services.logs.faults import InvalidParameter

__all__ = ["FilterPattern", "parse_filter_pattern"]

_TERM = re.compile(r'\s*([?-]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?=\s|$)')
_UNSERVED = {"{": "over JSON", "[": "over columns", "%": "with regular expressions"}


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterPattern:
    """What a text must, must not, or must in part contain."""

    all_of: Sequence[str] = ()
    any_of: Sequence[str] = ()
    none_of: Sequence[str] = ()

    def matches(self, text: str) -> bool:
        """Tell whether a text matches; the empty pattern matches all."""
        return (
            all(term in text for term in self.all_of)
            and (not self.any_of or any(term in text for term in self.any_of))
            and not any(term in text for term in self.none_of)
        )


def parse_filter_pattern(pattern: str) -> FilterPattern:
    """Parse a pattern; raises InvalidParameter."""
    text = pattern.strip()
    if text[:1] in _UNSERVED:
        raise InvalidParameter(f"Filter patterns {_UNSERVED[text[0]]} are not supported, got {pattern!r}")
    terms: dict[str, list[str]] = {"": [], "?": [], "-": []}
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None:
            raise InvalidParameter(f"Invalid filter pattern: expected terms and quoted phrases, got {pattern!r}")
        sign, phrase, term = match.groups()
        terms[sign].append(re.sub(r"\\(.)", r"\1", phrase) if phrase is not None else term)
        position = match.end()
    return FilterPattern(all_of=terms[""], any_of=terms["?"], none_of=terms["-"])
