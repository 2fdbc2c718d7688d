"""Reads labels out of an OpenAI-compatible answer: from its token log-probabilities, else from its text.

Tokens need not end where the label begins (" [[" + "4", "[[4", " 4" are all seen), so everything is done on the
bytes of the tokens joined together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Probability that belongs to labels but can't be told apart among them, relative to what can: above it, the
# distribution would be bent, and none is told.
UNRESOLVED_LIMIT = 0.01

_CLOSERS = {"[": "]", "(": ")", "{": "}", "<": ">", '"': '"', "'": "'", "`": "`"}
_LINE_END = re.compile(r"[ \t]*\r?\n|\s*$")
_GOES_ON = re.compile(r"\w|[.,:/'’-]\w")


@dataclass(frozen=True, slots=True)
class Token:
    """One written token. top: the most probable tokens for its place, each with its natural log-probability; the
    written one is among them."""

    piece: bytes
    top: tuple[tuple[bytes, float], ...]


def tokens_of(logprobs: Mapping[str, Any] | None) -> tuple[Token, ...] | None:
    """Tokens of a choice's `logprobs`, in the shape of chat completions ("content") or of completions ("tokens").
    None where the endpoint told none. Errors of a malformed body are Python's own (KeyError, TypeError, ...)."""
    if not logprobs:
        return None
    tokens = []
    if logprobs.get("content"):
        for entry in logprobs["content"]:
            top = [(_bytes(other), _logprob(other["logprob"])) for other in entry.get("top_logprobs") or ()]
            tokens.append((_bytes(entry), _logprob(entry["logprob"]), top))
    elif logprobs.get("tokens") and logprobs.get("top_logprobs"):
        columns = (logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"])
        for text, logprob, others in zip(*columns, strict=True):
            top = [(other.encode(), _logprob(value)) for other, value in (others or {}).items()]
            tokens.append((text.encode(), _logprob(logprob), top))
    if not tokens:
        return None
    return tuple(
        Token(piece, tuple(top) if any(other == piece for other, _ in top) else ((piece, logprob), *top))
        for piece, logprob, top in tokens
    )


def _bytes(entry: Mapping[str, Any]) -> bytes:
    told = entry.get("bytes")
    return bytes(told) if told is not None else str(entry["token"]).encode()


def _logprob(value: float) -> float:
    logprob = float(value)
    if math.isnan(logprob):
        raise ValueError("a log-probability is not a number")
    return min(logprob, 0.0)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a label begins, in bytes. bare: the constant before it was not written in full."""

    offset: int
    bare: bool


class LabelReader:
    """Finds one of `labels` after `answer_start` in an answer.

    prefilled: answer_start was part of the prompt, so that the answer begins with the label.
    A label ends at the bracket or quote that answers the last one of answer_start, at the end of a line, or, if
    answer_start ends in neither, before anything that doesn't go on as a word or number.
    """

    def __init__(self, answer_start: str, labels: Sequence[str], prefilled: bool = False) -> None:
        self._start = b"" if prefilled else answer_start.strip().encode()
        self._labels = [label.strip().encode() for label in labels]
        self._closer = _CLOSERS.get(answer_start.rstrip()[-1:])

    def read(self, text: str, tokens: Sequence[Token] | None, cut: bool) -> tuple[tuple[float, ...] | None, int | None]:
        """(log-probabilities, None), or (None, index of the label that the text says), or (None, None).

        cut: whether a token limit ended the text, and perhaps a label within.
        Log-probabilities are those at the label's position given what was written before it. A label that isn't
        among the alternatives told gets -inf, so that the labels' mass is a lower bound.
        """
        chosen = self.parse(text.encode(), cut)
        if tokens:
            written = b"".join(token.piece for token in tokens)
            # Tokens that say something else than the text (ids, hidden reasoning) prove nothing about it.
            if self.parse(written, cut) == chosen and (logprobs := self._logprobs(written, tokens)) is not None:
                return logprobs, None
        return None, chosen

    def parse(self, text: bytes, cut: bool) -> int | None:
        """Index of the label that the text says."""
        place = self._locate(text)
        return None if place is None else self._label_at(text, place, cut)

    def _locate(self, text: bytes) -> _Place | None:
        """None if neither the constant nor, at the text's beginning, a label was written."""
        at = text.find(self._start)
        if at >= 0:
            return _Place(_after_space(text, at + len(self._start)), bare=False)
        begin = _after_space(text, 0)
        tails = (self._start[i:] for i in range(1, len(self._start) + 1))
        tail = next(tail for tail in tails if text.startswith(tail, begin))
        place = _Place(_after_space(text, begin + len(tail)), bare=True)
        return place if self._label_at(text, place, cut=False) is not None else None

    def _label_at(self, text: bytes, place: _Place, cut: bool) -> int | None:
        rest = text[place.offset :]
        if cut and any(label.startswith(rest) for label in self._labels):
            return None
        return self._complete(rest, place.bare)

    def _complete(self, said: bytes, bare: bool) -> int | None:
        """Index of the longest label with which `said` begins and after which it ends or a terminator stands."""
        found = [i for i, label in enumerate(self._labels) if said.startswith(label)]
        found = [i for i in found if self._ends(said[len(self._labels[i]) :].decode(errors="replace"), bare)]
        return max(found, key=lambda i: len(self._labels[i]), default=None)

    def _ends(self, tail: str, bare: bool) -> bool:
        if _LINE_END.match(tail):
            return True
        if self._closer is not None:
            return tail.lstrip().startswith(self._closer)
        return not bare and not _GOES_ON.match(tail)

    def _logprobs(self, written: bytes, tokens: Sequence[Token]) -> tuple[float, ...] | None:
        """None if the label's position was not reached, no alternatives are told there, or what is told can't be
        divided among the labels."""
        place = self._locate(written)
        index, begin = 0, 0
        while index < len(tokens) and place is not None and begin + len(tokens[index].piece) <= place.offset:
            begin += len(tokens[index].piece)
            index += 1
        if place is None or index == len(tokens) or len(tokens[index].top) < 2:
            return None
        lead = written[begin : place.offset].rstrip()  # of the token in which the label begins
        top = tuple((piece[len(lead) :].lstrip(), lp) for piece, lp in tokens[index].top if piece.startswith(lead))
        first = Token(tokens[index].piece[len(lead) :].lstrip(), top)
        masses = [0.0] * len(self._labels)
        unresolved = self._collect((first, *tokens[index + 1 :]), b"", 0.0, place.bare, masses)
        if unresolved > UNRESOLVED_LIMIT * sum(masses):
            return None
        return tuple(min(0.0, math.log(mass)) if mass > 0.0 else -math.inf for mass in masses)

    def _collect(self, tokens: Sequence[Token], said: bytes, weight: float, bare: bool, masses: list[float]) -> float:
        """Adds to `masses` each label's probability along the written path and one token beside it; returns the
        probability that belongs to some label, but not known to which. weight: log-probability of `said`."""
        spellings = [said + piece for piece, _ in tokens[0].top]
        unresolved, followed = 0.0, False
        for spelled, (piece, logprob) in zip(spellings, tokens[0].top, strict=True):
            is_open = any(label != spelled and label.startswith(spelled) for label in self._labels if spelled)
            if is_open and not followed and piece == tokens[0].piece and len(tokens) > 1:
                unresolved += self._collect(tokens[1:], spelled, weight + logprob, bare, masses)
                followed = True
            elif (label := self._settled(spelled, spellings, bare)) is not None:
                masses[label] += math.exp(weight + logprob)
            elif is_open:
                unresolved += math.exp(weight + logprob)
        return unresolved

    def _settled(self, spelled: bytes, spellings: Sequence[bytes], bare: bool) -> int | None:
        """Index of the label that `spelled` says, whatever comes next."""
        longer = [label for label in self._labels if label != spelled and label.startswith(spelled)]
        # A tokenizer that has "10" as a token writes it so: its "1" is then no beginning of "10".
        further = [other for other in spellings if len(other) > len(spelled)]
        if all(any(label.startswith(other) or other.startswith(label) for other in further) for label in longer):
            return self._complete(spelled, bare)
        return None


def _after_space(text: bytes, offset: int) -> int:
    return len(text) - len(text[offset:].lstrip())
