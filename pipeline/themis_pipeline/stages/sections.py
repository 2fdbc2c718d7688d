"""Answers in sections: the form in which models hand back several texts, and its strict reading."""

from __future__ import annotations

import re
from collections.abc import Sequence

from themis_judge.prompts import block
from themis_pipeline.stages.errors import Unparsable

_HEADING = re.compile(r"^=== (?P<title>[^=\n]+?) ===[ \t]*$", re.MULTILINE)


def heading(title: str) -> str:
    return f"=== {title} ==="


def read_sections(text: str, titles: Sequence[str]) -> list[str]:
    """The texts under the titles, which all stand there, once each, in this order, with nothing before the first.

    Raises Unparsable: text_before, headings (missing, doubled, in another order, not asked for), empty_section.
    """
    found = list(_HEADING.finditer(text))
    if not found or [match["title"] for match in found] != list(titles):
        raise Unparsable("headings")
    if text[: found[0].start()].strip():
        raise Unparsable("text_before")
    ends = [match.start() for match in found[1:]] + [len(text)]
    sections = [text[match.end() : end].strip() for match, end in zip(found, ends, strict=True)]
    if not all(sections):
        raise Unparsable("empty_section")
    return sections


def data_block(kind: str, text: str) -> str:
    """Somebody else's text between marks that it can't close."""
    return "".join(piece.text for piece in block(kind, text))
