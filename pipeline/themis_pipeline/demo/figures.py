"""What a running pipeline tells of itself, read from its metrics port."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

READ_S = 10.0
PREFIX = "themis_pipeline_"
LEFT_OUT = "dropped_total"
_OPEN = ("lag_records", "in_hand_records")
_DONE = ("outcomes_total", "committed_records_total")


@dataclass(frozen=True, slots=True)
class Figures:
    """Each metric's samples summed over all labels but two: by (metric, stage, what), where `what` is the outcome, the
    code or the kind, and empty for metrics without one."""

    totals: Mapping[tuple[str, str, str], float]

    def of(self, metric: str, stage: str = "", what: str | None = None) -> int:
        """Of a stage, of all where none is named; with or without one outcome."""
        return round(self.amount(metric, stage, what))

    def amount(self, metric: str, stage: str = "", what: str | None = None) -> float:
        """The same of what isn't counted in whole numbers."""
        return sum(
            value
            for (name, own, kind), value in self.totals.items()
            if name == metric and stage in ("", own) and what in (None, kind)
        )

    @property
    def left_out(self) -> Mapping[tuple[str, str], int]:
        """By stage and code."""
        return {(own, kind): round(value) for (name, own, kind), value in self.totals.items() if name == LEFT_OUT}

    def moved_since(self, earlier: Figures) -> bool:
        """Whether a stage has read, handled or committed anything."""
        return any(
            value != earlier.totals.get(key, 0.0) for key, value in self.totals.items() if key[0] in (*_OPEN, *_DONE)
        )

    @property
    def open(self) -> int:
        """Records that wait or are in hand."""
        return sum(map(self.of, _OPEN))


def read_figures(address: str) -> Figures:
    """Raises OSError where nothing answers."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=READ_S) as answer:
        return summed(text_string_to_metric_families(answer.read().decode()))


def ready(address: str) -> bool:
    """Whether all stages take part in reading their topics."""
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=READ_S):
            return True
    except OSError:  # it isn't there yet, or says 503
        return False


def summed(families: Iterable[Metric]) -> Figures:
    totals: dict[tuple[str, str, str], float] = defaultdict(float)
    for family in families:
        for sample in family.samples:
            if sample.name.startswith(PREFIX):
                labels = sample.labels
                what = labels.get("outcome") or labels.get("code") or labels.get("kind") or ""
                totals[sample.name.removeprefix(PREFIX), labels.get("stage", ""), what] += sample.value
    return Figures(totals)
