"""Difficulties that are far too high for their scenario and template: noise rather than hard records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, median

from themis_pipeline.select.candidates import Candidate

# Each makes the deviation of a normal distribution 1.
_BY_MEDIAN = 1 / 1.4826022185056018
_BY_MEAN = math.sqrt(2 / math.pi)


@dataclass(frozen=True, slots=True)
class Spread:
    """Of a pool of difficulties. deviation: in units of a standard deviation, had the pool a normal distribution; by
    the median of the distances from the median, or by their mean where more than half of them are 0. Neither is moved
    by a few wild values as mean and standard deviation are, by which none of ten values or fewer can lie above 3."""

    records: int
    median: float
    deviation: float

    def z(self, value: float) -> float:
        """How many deviations it lies above the median; 0 where the pool has none and can't tell."""
        return (value - self.median) / self.deviation if self.deviation > 0 else 0.0


def spread(values: Iterable[float]) -> Spread:
    """Raises statistics.StatisticsError for no values."""
    values = list(values)
    middle = median(values)
    distances = [abs(value - middle) for value in values]
    by_median = median(distances) / _BY_MEDIAN
    return Spread(len(values), middle, by_median if by_median > 0 else fmean(distances) / _BY_MEAN)


def pool_of(candidates: Iterable[Candidate]) -> Mapping[tuple[str, str], Spread]:
    """By scenario and template. Kept and handed to later selections, it says the same of the same record whatever has
    been archived since."""
    values: dict[tuple[str, str], list[float]] = {}
    for candidate in candidates:
        if candidate.difficulty is not None:
            values.setdefault((candidate.scenario, candidate.template), []).append(candidate.difficulty)
    return {key: spread(values[key]) for key in sorted(values)}
