"""An evaluation cut into what its format forces and what its writer chose, as it was put together: line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from themis_judge.prompts import PAIR_START, RATING_START
from themis_pipeline.select.ifd import Piece

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_RATING_LINE = re.escape(RATING_START).replace(r"\{low\}", r"\d{1,3}").replace(r"\{high\}", r"\d{1,3}")
_RATED = r"(?P<rating>\d{1,3})\]\]"
_LINES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_RATING_LINE}{_RATED}",
        r"Strengths:|Shortcomings:",
        rf"- (?P<text>[^\[\]\n]+?) \[\[{_RATED}",
        rf"{re.escape(PAIR_START)}(?P<choice>[ABC])\]\]",
    )
)


def pieces(critique: str) -> tuple[Piece, ...]:
    """Headings, brackets and what stands before a rating are forced; points, ratings and the choice of a pair are free.
    A text that isn't wholly in the judge's format, a person's for instance, is free as a whole: of such a one nothing
    was forced."""
    found: list[Piece] = []
    for line in _LINE.findall(critique):
        text = line.removesuffix("\n")
        match = next((match for pattern in _LINES if (match := pattern.fullmatch(text))), None)
        if match is None:
            return (Piece(critique),)
        found += _cut(line, match)
    return tuple(found)


def _cut(line: str, match: re.Match[str]) -> Iterator[Piece]:
    """The groups of a line's pattern are what is free in it."""
    at = 0
    for start, end in sorted(match.span(name) for name in match.groupdict()):
        yield Piece(line[at:start], forced=True)
        yield Piece(line[start:end])
        at = end
    yield Piece(line[at:], forced=True)
