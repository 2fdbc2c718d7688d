"""docs/metrics.md, the dashboard and the alerts against the metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
import yaml

from tests.integration.sidecar_fakes import FakeJudge
from tests.unit.sidecar.test_observe_metrics import RATED
from themis_judge.engines.base import Batch
from themis_judge.items import Result, Status
from themis_sidecar.calls import CallRecord
from themis_sidecar.observe.metrics import Metrics

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "k8s/monitoring"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
FROM_PROMETHEUS = {"instance", "job"}
IN_DASHBOARDS = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}
# What stands in PromQL beside metrics and labels.
WORDS = {
    "and", "by", "changes", "count", "histogram_quantile", "increase", "on", "rate", "sum",
}  # fmt: skip

Shape: TypeAlias = tuple[str, frozenset[str]]  # type, and labels


@pytest.fixture(scope="module")
def metrics() -> dict[str, Shape]:
    """All metrics by the names that Prometheus knows them by, after something of every kind happened."""
    made = Metrics("1.2.3")
    made.watch(lambda: True, lambda: 0, lambda: 0)
    made.items.answered("Score", "v1", RATED)
    made.items.answered("Score", "v1", Result(Status.OFF_FORMAT, off_format="cut"))
    record = CallRecord("Score", made.items.answered, items=1)
    record.code = grpc.StatusCode.OK
    made.calls.ended(record)
    made.engine.batch(Batch(1, 1, 1.0))
    made.swaps.started(FakeJudge().version)
    found: dict[str, Shape] = {}
    for family in made.registry.collect():
        assert family.samples, f"nothing happened to {family.name}; make it happen above"
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = family.type, frozenset(labels)
    return found


def documented() -> dict[str, Shape]:
    table = (ROOT / "docs/metrics.md").read_text(encoding="utf-8").split("| metric |")[1].split("\n\n")[0]
    found: dict[str, Shape] = {}
    for line in table.splitlines()[2:]:
        name, kind, labels, unit, meaning, advice = (cell.strip() for cell in line.strip().strip("|").split(" | "))
        assert unit, name
        assert meaning, name
        assert advice, name
        assert name.strip("`") not in found, name
        found[name.strip("`")] = kind, frozenset(labels.split(", ")) if labels != "–" else frozenset()
    return found


def test_the_table_holds_every_metric_and_no_other(metrics: dict[str, Shape]) -> None:
    assert documented() == metrics


def test_the_docs_name_no_metric_that_is_not_there(metrics: dict[str, Shape]) -> None:
    pages = [ROOT / "docs/metrics.md", MONITORING / "dashboard.json", MONITORING / "alerts.yaml"]
    for page in pages:
        named = set(
            re.findall(r"\bthemis_(?!client\b|sidecar\b|pipeline\b|pipeline_)\w+", page.read_text(encoding="utf-8"))
        )
        assert named <= set(series(metrics)) | set(metrics), page


def series(metrics: dict[str, Shape]) -> dict[str, frozenset[str]]:
    """The labels of each series that a query may name."""
    found: dict[str, frozenset[str]] = {}
    for name, (kind, labels) in metrics.items():
        base = name.removesuffix("_total") if kind == "counter" else name
        for suffix in SUFFIXES[kind]:
            found[base + suffix] = labels | FROM_PROMETHEUS | ({"le"} if suffix == "_bucket" else set())
    return found


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """The dashboard's panels and queries, with its variables filled in."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    found = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", ())]
    found += [(one["name"], one["expr"]) for one in dashboard["annotations"]["list"]]
    for where, query in found:
        for variable, text in IN_DASHBOARDS.items():
            query = query.replace(variable, text)
        yield where, query


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


QUERIES = [*dashboard_queries(), *((rule["alert"], rule["expr"]) for rule in rules())]


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[f"{where}-{n}" for n, (where, _) in enumerate(QUERIES)])
def test_a_query_asks_for_what_is_there(where: str, query: str, metrics: dict[str, Shape]) -> None:
    known = series(metrics)
    text = re.sub(r'"[^"]*"', '""', query)
    assert text.count("(") == text.count(")")
    asked = [name for name in re.findall(r"[a-zA-Z_]\w*", re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)) if name in known]
    assert asked, "no metric is asked for"
    labels = set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"\"", text))
    labels |= {label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", text) for label in group.split(", ")}
    for label in labels:
        assert any(label in known[name] for name in asked), f"{asked} have no label {label}"
    left = set(re.findall(r"[a-zA-Z_]\w*", re.sub(r"\[[^\]]*\]", "", text))) - labels - set(known) - WORDS
    assert not left, f"neither metric, label nor function: {left}"


def test_every_metric_of_ours_is_on_the_dashboard(metrics: dict[str, Shape]) -> None:
    text = "\n".join(query for _, query in dashboard_queries())
    shown = {name for name, shape in metrics.items() if any(one in text for one in series({name: shape}))}
    # The build's labels fill the dashboard's variables instead.
    assert {name for name in metrics if name.startswith("themis_")} - shown == {"themis_build_info"}


def test_panels_do_not_overlap() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("rule", rules(), ids=[rule["alert"] for rule in rules()])
def test_an_alert_says_what_happened_and_what_to_look_at(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    kept = re.search(r"sum by \(([^)]*)\)|count by \(([^)]*)\)", rule["expr"])
    if kept is not None:
        assert used <= set((kept[1] or kept[2]).split(", ")), "a label that the expression has summed away"
