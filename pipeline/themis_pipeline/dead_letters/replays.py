"""How often a record was replayed: a header beside its own, which goes with it through retries and into a next letter.
A stage that gave up since a model's answers were of no use asks for new ones then, and not its journal for the old."""

from __future__ import annotations

from collections.abc import Sequence

from themis_pipeline.kafka.seam import Header

HEADER = "themis-replays"
MOST = 20
"""More are not counted: each lets a stage ask anew, and whoever feeds a topic may write the header."""


def count(headers: Sequence[Header]) -> int:
    """0 also for what is no number."""
    told = [content for name, content in headers if name == HEADER]
    text = (told[-1] or b"") if told else b""
    return min(int(text), MOST) if text.isdigit() and len(text) < 4 else 0


def counted(headers: Sequence[Header]) -> tuple[Header, ...]:
    """With one replay more."""
    others = tuple(header for header in headers if header[0] != HEADER)
    return (*others, (HEADER, str(min(count(headers) + 1, MOST)).encode()))
