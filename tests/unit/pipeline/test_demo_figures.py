"""What the demo's view reads off the metrics of a runner."""

from __future__ import annotations

import io

from prometheus_client import CollectorRegistry
from rich.console import Console

from themis_pipeline.demo import view
from themis_pipeline.demo.figures import Figures, summed
from themis_pipeline.kafka.seam import Partition
from themis_pipeline.runner.metrics import RunnerFamilies, RunnerMetrics


def told(registry: CollectorRegistry) -> Figures:
    return summed(registry.collect())


def test_partitions_are_summed_and_stages_kept_apart() -> None:
    registry = CollectorRegistry()
    families = RunnerFamilies(registry)
    label, plan = RunnerMetrics(families, "label"), RunnerMetrics(families, "plan")
    places = (Partition("response-sets", 0), Partition("label-retry", 1))
    before = told(registry)
    label.shown(dict(zip(places, (5, 2), strict=True)), dict(zip(places, (3, 1), strict=True)), {})
    for outcome in ("done", "done", "dead"):
        label.outcome(outcome)
    plan.outcome("done")
    figures = told(registry)
    assert figures.of("lag_records", "label") == 7
    assert figures.of("outcomes_total", "label", "done") == 2
    assert figures.of("outcomes_total", "label") == 3
    assert figures.of("outcomes_total") == 4
    assert figures.of("lag_records", "plan") == 0
    assert figures.open == 11
    assert figures.moved_since(before)
    assert not figures.moved_since(figures)
    rows = shown(figures)
    assert next(row for row in rows if row[:1] == ["label"]) == ["label", "3", "4", "2", "1"]


def test_a_partition_that_goes_takes_its_lag_with_it() -> None:
    registry = CollectorRegistry()
    metrics = RunnerMetrics(RunnerFamilies(registry), "label")
    place = Partition("response-sets", 0)
    metrics.shown({place: 5}, {place: 5}, {place: 1.0})
    assert told(registry).open == 10
    metrics.gone(place)
    assert told(registry).open == 0


def shown(figures: Figures) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=120)
    console.print(view.table(figures, ["label", "plan"], 3.0))
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]
