"""Instructions of one call: which of them are so unlike that an answer to one is none to the other."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_LIKENESS = 0.4
"""The share of words in common above which one answer might do for both."""

# Words that stand in any question, and say nothing of what it is about.
_COMMON = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "by", "do", "does", "for", "from", "how", "i", "in", "is", "it",
    "me", "my", "of", "on", "or", "please", "that", "the", "their", "this", "to", "was", "were", "what", "when",
    "where", "which", "who", "why", "will", "with", "would", "write", "you", "your",
})  # fmt: skip


def likeness(one: str, other: str) -> float:
    """Words in common by words in all, in [0, 1]; 1 for texts without words that say anything."""
    first, second = _words(one), _words(other)
    return len(first & second) / len(first | second) if first and second else 1.0


def least_like(texts: Sequence[str], index: int) -> int | None:
    """The place of the text that is least like the one at `index`; None where all are too like it."""
    likenesses = [(likeness(texts[index], text), place) for place, text in enumerate(texts) if place != index]
    least, place = min(likenesses, default=(1.0, 0))
    return place if least <= MAX_LIKENESS else None


def _words(text: str) -> frozenset[str]:
    # Without spaces between words, pairs of characters stand for them.
    unspaced = re.findall("[\u3040-\u9fff]+", text)
    pairs = {run[at : at + 2] for run in unspaced for at in range(len(run) - 1)}
    spaced = re.findall(r"\w+", re.sub("[\u3040-\u9fff]+", " ", text.lower()))
    return frozenset(pairs | set(spaced)) - _COMMON
