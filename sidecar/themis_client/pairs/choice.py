"""Which pairs come of a row's scores. Pure arithmetic."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from themis_client.pairs.record import Mark

Which: TypeAlias = Literal["best-worst", "all"]


@dataclass(frozen=True, slots=True)
class Pair:
    """margin: the chosen one's score less the rejected one's, in [0, 1]. tie: it is below what was asked for, or 0;
    the chosen one is then still the one with the higher score, and of equals the first."""

    chosen: Mark
    rejected: Mark
    margin: float
    tie: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """ties: pairs that are one, kept or dropped. left_out: pairs that were above the bound per prompt."""

    pairs: tuple[Pair, ...]
    ties: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Choice:
    """most: pairs of one prompt, the widest margins first."""

    which: Which = "best-worst"
    min_margin: float = 0.0
    keep_ties: bool = False
    most: int = 1

    def of(self, marks: Sequence[Mark]) -> Chosen:
        ranked = sorted(marks, key=lambda mark: (-mark.score, mark.index))
        if len(ranked) < 2:
            return Chosen((), 0, 0)
        ends = [(ranked[0], ranked[-1])]
        found = [
            self._pair(*two) for two in (ends if self.which == "best-worst" else itertools.combinations(ranked, 2))
        ]
        kept = [pair for pair in found if self.keep_ties or not pair.tie]
        # combinations() goes by rank, and so decides among equal margins.
        widest = heapq.nsmallest(self.most, kept, key=lambda pair: -pair.margin)
        return Chosen(tuple(widest), sum(pair.tie for pair in found), len(kept) - len(widest))

    def _pair(self, better: Mark, worse: Mark) -> Pair:
        margin = better.score - worse.score
        return Pair(better, worse, margin, margin < self.min_margin or margin == 0)
