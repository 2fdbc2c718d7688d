"""Metrics told directly: what each kind of outcome counts as, and that series end."""

from __future__ import annotations

import itertools
from dataclasses import replace

import grpc
import pytest
from prometheus_client import CollectorRegistry

from tests.integration.sidecar_fakes import FakeJudge
from themis_judge.engines.base import Batch, Usage
from themis_judge.items import (
    Classification,
    CompareResult,
    Difficulty,
    Distribution,
    Preference,
    Result,
    Status,
    Verdict,
)
from themis_sidecar.calls import CallRecord
from themis_sidecar.observe.failures import KEPT, LastFailures
from themis_sidecar.observe.items import Outcome
from themis_sidecar.observe.metrics import Metrics

USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=1, queued_s=0.5, computed_s=0.25)
RATED = Result(
    Status.OK,
    verdict=Verdict(Distribution((1, 2), (0.5, 0.5), 0.8, 1.5, 1), score=0.5, entropy=0.7),
    scenario="math",
    usage=USAGE,
)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


@pytest.mark.parametrize(
    ("outcome", "mass"),
    [
        (RATED, 0.8),
        (CompareResult(Status.OK, Preference("A", (1.0, 0.0, 0.0), None, 0.6)), 0.6),
        (Classification(Status.OK, "math", label_mass=0.4), 0.4),
        (CompareResult(Status.OK, Preference("A", (1.0, 0.0, 0.0), None, None)), None),
        (Difficulty(Status.OK, -1.0, -2.0), None),
        (replace(RATED, status=Status.TOO_LONG, verdict=None), None),
    ],
)
def test_label_mass_is_of_whatever_has_one(outcome: Outcome, mass: float | None) -> None:
    metrics = Metrics("1.2.3")
    metrics.items.answered("Score", "v1", outcome)
    assert value(metrics.registry, "themis_label_mass_sum", version="v1") == mass
    assert value(metrics.registry, "themis_items_total", method="Score", status=outcome.status.name, version="v1") == 1


def test_a_failed_items_tokens_count_and_its_times_do_not() -> None:
    metrics = Metrics("1.2.3")
    metrics.items.answered("Score", "v1", Result(Status.OFF_FORMAT, off_format="cut", usage=USAGE))
    assert value(metrics.registry, "themis_prompt_tokens_total", version="v1") == 10
    assert value(metrics.registry, "themis_item_stage_seconds_count", stage="queued") == 0
    assert value(metrics.registry, "themis_off_format_total", reason="cut", version="v1") == 1
    assert value(metrics.registry, "themis_score_count", scenario="math", version="v1") is None


def test_a_versions_series_end_with_it_and_begin_anew() -> None:
    metrics = Metrics("1.2.3")
    for version in ("v1", "v2"):
        metrics.items.answered("Score", version, RATED)
        metrics.items.answered("Score", version, Result(Status.OFF_FORMAT, off_format="cut"))
    before = {
        (sample.name, *sample.labels.values()) for family in metrics.registry.collect() for sample in family.samples
    }
    metrics.forget_version("v1")
    after = {
        (sample.name, *sample.labels.values()) for family in metrics.registry.collect() for sample in family.samples
    }
    assert {one[0] for one in before if "v1" in one} == {one[0] for one in before if "v2" in one}
    assert after == {one for one in before if "v1" not in one}
    metrics.items.answered("Score", "v1", RATED)
    assert value(metrics.registry, "themis_items_total", method="Score", status="OK", version="v1") == 1


def test_swaps_leave_one_current_version() -> None:
    metrics = Metrics("1.2.3")
    first = FakeJudge().version
    second = replace(first, id="second")
    metrics.swaps.started(first)
    metrics.swaps.load_ended(3.0, ok=True)
    metrics.swaps.promoted(second)
    metrics.swaps.load_ended(2.0, ok=False)
    metrics.swaps.rolled_back()
    metrics.swaps.promoted(first)
    told = {
        sample.labels["version"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "themis_version_current"
    }
    assert told == {first.id: 1}
    assert value(metrics.registry, "themis_version_promotions_total") == 2
    assert value(metrics.registry, "themis_version_rollbacks_total") == 1
    assert value(metrics.registry, "themis_version_load_seconds_sum", outcome="ok") == 3
    assert value(metrics.registry, "themis_version_load_seconds_sum", outcome="failed") == 2


def test_alerts_can_see_the_first_failure() -> None:
    registry = Metrics("1.2.3").registry
    judging = ("Score", "StreamScores", "Compare", "Classify", "Difficulty", "Describe")
    for method in (*judging, "List", "Load", "Promote", "Retire", "Hold", "Release"):
        assert value(registry, "themis_calls_total", method=method, code="INTERNAL") == 0
    assert value(registry, "themis_version_load_seconds_count", outcome="failed") == 0
    assert value(registry, "themis_engine_failures_total") == 0


def test_batches() -> None:
    metrics = Metrics("1.2.3")
    metrics.engine.batch(Batch(items=3, tokens=700, seconds=0.2))
    metrics.engine.batch(Batch(items=1, tokens=50, seconds=0.1))
    assert value(metrics.registry, "themis_engine_batch_items_sum") == 4
    assert value(metrics.registry, "themis_engine_batch_tokens_sum") == 750
    assert value(metrics.registry, "themis_engine_batch_duration_seconds_count") == 2


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics("1.2.3"), Metrics("1.2.3")
    one.items.answered("Score", "v1", RATED)
    assert other.items.totals() == []
    assert one.items.totals() == [{"method": "Score", "outcome": "OK", "count": 1}]


def test_only_the_last_failures_of_each_code_are_kept() -> None:
    times = itertools.count()
    failures = LastFailures(clock=lambda: float(next(times)))

    def fail(code: grpc.StatusCode, items: int) -> None:
        record = CallRecord("Score", lambda _method, _version, _outcome: None, items=items)
        record.code = code
        failures.add(record)

    fail(grpc.StatusCode.INTERNAL, 0)
    for number in range(1, KEPT + 4):
        fail(grpc.StatusCode.RESOURCE_EXHAUSTED, number)
    latest = failures.latest()
    assert [one.items for one in latest] == [*range(KEPT + 3, 3, -1), 0]
    assert latest[-1].code == "INTERNAL"
    assert latest[-1].at.isoformat() == "1970-01-01T00:00:00+00:00"
