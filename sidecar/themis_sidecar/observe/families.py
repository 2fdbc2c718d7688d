"""What all groups of metrics share: children by label values, and buckets."""

from __future__ import annotations

from collections import Counter as Counts
from typing import Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram

M = TypeVar("M", Counter, Gauge, Histogram)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
POWERS_OF_TWO = tuple(float(2**n) for n in range(11))


class Children(Generic[M]):
    """A metric's children. The library's own labels() locks and copies at each call, which the path of every item
    would feel."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._held: dict[tuple[str, ...], M] = {}

    def __call__(self, *values: str) -> M:
        child = self._held.get(values)
        if child is None:
            child = self._held[values] = self._metric.labels(*values)
        return child

    def forget(self, last: str) -> None:
        """Drops the series whose last label has this value."""
        for values in [values for values in self._held if values[-1] == last]:
            del self._held[values]
            self._metric.remove(*values)

    def totals(self, of: str, outcome: str) -> list[dict[str, str | int]]:
        """A counter's values that aren't 0, summed over all other labels, as rows of a table."""
        sums: Counts[tuple[str, str]] = Counts()
        for family in self._metric.collect():
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    sums[sample.labels[of], sample.labels[outcome]] += int(sample.value)
        return [{of: a, "outcome": b, "count": count} for (a, b), count in sorted(sums.items()) if count]
