"""What calls took and cost, by stage and endpoint, in this process."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)


@dataclass(slots=True)
class Totals:
    """attempts: requests that went out, by how they ended; answers: what callers got, by outcome; paid: answers with
    their tokens and cost_micros, all told by the endpoint; unsure, unsure_micros: attempts that ended without an
    answer that can be read, though the endpoint may bill them, and the most they can cost (counted as spent);
    from_journal: answers that were paid before; doubled: paid here although another process had paid already;
    unjournaled: paid and used, but the journal couldn't be written, so that a crash would pay again; retries: attempts
    after a call's first; seconds: how long attempts took, how many of them up to each bound of SECONDS, and beyond."""

    paid: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_micros: int = 0
    unsure: int = 0
    unsure_micros: int = 0
    from_journal: int = 0
    doubled: int = 0
    unjournaled: int = 0
    retries: int = 0
    seconds_sum: float = 0.0
    seconds: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    attempts: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    def took(self, seconds: float) -> None:
        self.seconds_sum += seconds
        self.seconds[bisect_left(SECONDS, seconds)] += 1


class Accounts:
    """For one event loop."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, str], Totals] = {}

    def of(self, stage: str, endpoint: str) -> Totals:
        return self._totals.setdefault((stage, endpoint), Totals())

    def snapshot(self) -> Mapping[tuple[str, str], Totals]:
        """By (stage, endpoint); copies."""
        return {
            key: replace(
                totals, attempts=totals.attempts.copy(), answers=totals.answers.copy(), seconds=totals.seconds[:]
            )
            for key, totals in list(self._totals.items())
        }
