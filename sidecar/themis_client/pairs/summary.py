"""What a run came to, in numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from themis_client.failure import Status
from themis_client.pairs.choice import Chosen

STEPS = 1000
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class Margins:
    """How margins are spread, to a thousandth, however many there are."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, margin: float) -> None:
        self._counts[round(margin * STEPS)] += 1

    def quantile(self, share: float) -> float:
        """By nearest rank: at least this share of the margins is no greater. Raises ValueError if there are none."""
        left = max(1, math.ceil(share * self._counts.total()))
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return step / STEPS
        raise ValueError("there are no margins")


@dataclass
class Summary:
    """prompts: rows of the input that are not empty. without: prompts that were judged and gave no pair. ties: pairs
    below the margin, kept or dropped. left_out: pairs beyond the bound per prompt."""

    version: str
    prompts: int = 0
    pairs: int = 0
    ties: int = 0
    without: int = 0
    left_out: int = 0
    failed: Counter[Status] = field(default_factory=Counter)
    retryable: int = 0
    margins: Margins = field(default_factory=Margins)

    def add(self, chosen: Chosen) -> None:
        self.prompts += 1
        self.pairs += len(chosen.pairs)
        self.ties += chosen.ties
        self.without += not chosen.pairs
        self.left_out += chosen.left_out
        for pair in chosen.pairs:
            self.margins.add(pair.margin)

    def add_failed(self, status: Status, retryable: bool) -> None:
        self.prompts += 1
        self.failed[status] += 1
        self.retryable += retryable

    def table(self, keep_ties: bool) -> Sequence[tuple[str, str]]:
        """Rows of two cells."""
        by_status = ", ".join(f"{status.name} {count}" for status, count in sorted(self.failed.items(), key=_by_name))
        return [
            ("prompts", str(self.prompts)),
            ("pairs", str(self.pairs)),
            ("ties, " + ("kept" if keep_ties else "dropped"), str(self.ties)),
            ("prompts without a pair", str(self.without)),
            ("pairs above the bound per prompt", str(self.left_out)),
            ("failed prompts", f"{self.failed.total()}{f' ({by_status})' if by_status else ''}"),
            *(self._quantiles() if self.pairs else ()),
            ("version", self.version),
        ]

    def _quantiles(self) -> Sequence[tuple[str, str]]:
        names = {0.0: "smallest", 0.5: "median", 1.0: "largest"}
        return [
            (f"margin, {names.get(share, f'{share:.0%} quantile')}", f"{self.margins.quantile(share):.3f}")
            for share in QUANTILES
        ]


def _by_name(entry: tuple[Status, int]) -> str:
    return entry[0].name
