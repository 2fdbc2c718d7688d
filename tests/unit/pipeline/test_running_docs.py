"""docs/metrics.md against the metrics of stages that run."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from themis_pipeline.kafka.seam import Partition
from themis_pipeline.runner.metrics import RunnerFamilies, RunnerMetrics
from themis_pipeline.running.parts import DropCounter

PAGE = Path(__file__).parents[3] / "docs/metrics.md"
ROW = re.compile(r"^\| `(themis_pipeline_(?!llm_)\w+)` \| (\w+) \| ([^|]*) \|", re.MULTILINE)


def test_the_page_tells_every_metric_with_its_type_and_labels() -> None:
    registry = CollectorRegistry()
    metrics = RunnerMetrics(RunnerFamilies(registry), "stage")
    place = Partition("topic", 0)
    metrics.shown({place: 1}, {place: 1}, {place: 1.0})
    metrics.transaction("committed", 0.1)
    metrics.moved("assigned", 1)
    metrics.handled(0.1)
    metrics.committed(1)
    DropCounter(registry)("stage", "code")
    found = {}
    for family in registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    told = {
        name: (kind, set(labels.replace(" ", "").split(",")))
        for name, kind, labels in ROW.findall(PAGE.read_text(encoding="utf-8"))
    }
    assert told == found
