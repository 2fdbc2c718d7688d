"""Instruction-following difficulty: how much a prompt helps to foresee its answer, by both published definitions.

Both compare the loss of the answer after its prompt with its loss after the assistant header alone, over the same
tokens. High: the prompt helps little, the answer is hard to give.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise


class NothingToScore(ValueError):
    """No token of the answer is free, or a likelihood is no number: there is no difficulty then, not even 0."""


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """One token of an answer. start_byte: where its text begins, in bytes of UTF-8; the others: its log-likelihood in
    nats after the prompt, and after the assistant header alone."""

    start_byte: int
    conditional: float
    unconditional: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer as it was put together. forced: the output format left no choice about it."""

    text: str
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Difficulty:
    """log_perplexity_ratio: of the perplexity with the prompt to that without, in nats per token; above 0 the prompt
    harms. mean_loss_ratio: above 1 the prompt harms; None where the loss without it is 0. Losses: means in nats."""

    log_perplexity_ratio: float
    mean_loss_ratio: float | None
    loss_with_prompt: float
    loss_alone: float
    tokens: int


def difficulty(tokens: Sequence[TokenLoss]) -> Difficulty:
    """Of the tokens given, all with the same weight. Raises NothingToScore."""
    if not tokens:
        raise NothingToScore("no token is free")
    given = -math.fsum(token.conditional for token in tokens) / len(tokens)
    alone = -math.fsum(token.unconditional for token in tokens) / len(tokens)
    if not (math.isfinite(given) and math.isfinite(alone)):
        raise NothingToScore("a likelihood is no number")
    if given < 0 or alone < 0:
        raise NothingToScore("a likelihood lies above 1")
    return Difficulty(given - alone, given / alone if alone > 0 else None, given, alone, len(tokens))


def joined(pieces: Iterable[Piece]) -> tuple[str, tuple[range, ...]]:
    """The text of an answer, and which of its bytes are forced. They are known by construction: looked for in the text,
    the words of the format would also be found where the answer merely uses them."""
    texts, forced, at = [], [], 0
    for piece in pieces:
        end = at + len(piece.text.encode())
        if piece.forced and end > at:
            forced.append(range(at, end))
        texts.append(piece.text)
        at = end
    return "".join(texts), _merged(forced)


def free_tokens(tokens: Sequence[TokenLoss], forced: Sequence[range], answer_bytes: int) -> tuple[TokenLoss, ...]:
    """Those that aren't wholly within forced text: a token that reaches beyond it says something. `forced` and
    `answer_bytes` as `joined` gives them; `tokens` in the order of the answer. Raises ValueError for tokens that can't
    be of such an answer."""
    ends = _ends([token.start_byte for token in tokens], answer_bytes)
    spans = _merged(forced)
    return tuple(
        token
        for token, end in zip(tokens, ends, strict=True)
        if not any(span.start <= token.start_byte and end <= span.stop for span in spans)
    )


def _ends(starts: Sequence[int], answer_bytes: int) -> list[int]:
    """Where each token ends. Tokens that share a character share its start, and so its end."""
    if any(later < start for start, later in pairwise(starts)):
        raise ValueError("tokens are not in the order of the answer")
    if starts and not 0 <= starts[0] <= starts[-1] < answer_bytes:
        raise ValueError("tokens reach beyond the answer")
    ends, following = [], answer_bytes
    for place in range(len(starts) - 1, -1, -1):
        ends.append(following)
        if place and starts[place - 1] < starts[place]:
            following = starts[place]
    return ends[::-1]


def _merged(spans: Sequence[range]) -> tuple[range, ...]:
    """In order, those that touch made one: a token may lie across two pieces that are both forced."""
    found: list[range] = []
    for span in sorted(spans, key=lambda span: span.start):
        if found and span.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, span.stop))
        else:
            found.append(span)
    return tuple(found)
