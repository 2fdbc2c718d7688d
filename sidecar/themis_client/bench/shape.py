"""What a run sends: the shape of its items, and how they come."""

from __future__ import annotations

import random
from dataclasses import dataclass

from themis_client.options import ModeName


@dataclass(frozen=True, slots=True)
class Words:
    """A length in words, drawn evenly from low to high, both included."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> Words:
        """Reads "120" or "50-400"; at least 1 word. Raises ValueError."""
        first, dash, second = text.partition("-")
        low = int(first)
        high = int(second) if dash else low
        if not 1 <= low <= high:
            raise ValueError(f"{text} is not a number of words from 1 on, nor LOW-HIGH")
        return cls(low, high)

    def draw(self, chance: random.Random) -> int:
        return chance.randint(self.low, self.high)

    def __str__(self) -> str:
        return f"{self.low}" if self.low == self.high else f"{self.low}-{self.high}"


@dataclass(frozen=True, slots=True)
class Shape:
    """group_size: responses per conversation. callers: clients, each with connections of its own.

    rate: items per second over all callers, as a Poisson process; None is a closed loop, in which each caller sends
    its next call when the last one is answered. in_flight: calls that one caller has in flight at most, with a rate.
    duration_s or items: how long is measured, after warmup_s. timeout_s: of a call, from the moment it was due.
    run: stands in every text, so that no two runs send the same; empty lets them.
    """

    prompt_words: Words
    response_words: Words
    group_size: int
    callers: int
    items_per_call: int
    rate: float | None
    in_flight: int
    duration_s: float | None
    items: int | None
    warmup_s: float
    timeout_s: float
    scenario: str
    mode: ModeName
    stream: bool
    retries: bool
    seed: int
    run: str

    @property
    def calls_at_a_time(self) -> int:
        """Of one caller."""
        return 1 if self.rate is None else self.in_flight
