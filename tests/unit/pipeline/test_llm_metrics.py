"""What Prometheus is told of calls to LLMs, and what docs/metrics.md says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.unit.pipeline.llm_endpoint import Silence, answer, misbehaving, refusal
from tests.unit.pipeline.llm_parts import asked, near, put_together
from themis_pipeline.llm.errors import CutShort, DeadlinePassed, EndpointUnavailable
from themis_pipeline.llm.metrics import LLMCollector

NEAR = {"endpoint": "near", "stage": "label"}
DOCS = Path(__file__).parents[3] / "docs/metrics.md"


async def test_calls_are_told_with_what_they_took(tmp_path: Path) -> None:
    registry = CollectorRegistry()

    def told(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"themis_pipeline_llm_{name}", labels)

    with misbehaving(refusal(500), answer("yes"), answer("as far", "length"), refusal(500), Silence()) as server:
        endpoint = near(server.url, failures_to_open=2, attempts=2)
        async with put_together(tmp_path, endpoint, total_micros=1_000_000) as parts:
            registry.register(LLMCollector(parts.accounts, parts.llm))
            assert told("budget_left", stage="") == 1.0
            for _ in range(2):
                await parts.llm.complete(asked(), parts.context())
            with pytest.raises(CutShort):
                await parts.llm.complete(asked(), parts.context(index=1))
            assert told("breaker_open", endpoint="near") == 0
            with pytest.raises(DeadlinePassed):
                await parts.llm.complete(asked(), parts.context(index=2, seconds=1.5))
            assert told("breaker_open", endpoint="near") == 0
            assert told("budget_left", stage="") == pytest.approx(1.0 - 40e-6 - parts.totals.unsure_micros * 1e-6)
            assert told("waiting_calls", endpoint="near") == 0
    assert told("calls_total", **NEAR, outcome="text") == 2
    assert told("calls_total", **NEAR, outcome="CutShort") == 1
    assert told("calls_total", **NEAR, outcome="DeadlinePassed") == 1
    assert told("attempts_total", **NEAR, outcome="status_500") == 2
    assert told("attempts_total", **NEAR, outcome="answered") == 2
    assert told("attempts_total", **NEAR, outcome="cancelled") == 1
    assert told("retries_total", **NEAR) == 2
    assert (told("tokens_total", **NEAR, kind="prompt"), told("tokens_total", **NEAR, kind="completion")) == (20, 10)
    assert told("cost_total", **NEAR, kind="answered") == pytest.approx(40e-6)
    assert told("cost_total", **NEAR, kind="unsure") == pytest.approx(parts.totals.unsure_micros * 1e-6)
    assert told("journal_hits_total", **NEAR) == 1
    assert (told("journal_doubled_total", **NEAR), told("journal_unwritten_total", **NEAR)) == (0, 0)
    assert told("attempt_seconds_count", **NEAR) == 5
    assert told("attempt_seconds_bucket", **NEAR, le="+Inf") == 5


async def test_a_breaker_that_opened_is_told(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    with misbehaving(refusal(500)) as server:
        async with put_together(tmp_path, near(server.url, failures_to_open=1, attempts=1)) as parts:
            registry.register(LLMCollector(parts.accounts, parts.llm))
            with pytest.raises(EndpointUnavailable):
                await parts.llm.complete(asked(), parts.context())
            assert registry.get_sample_value("themis_pipeline_llm_breaker_open", {"endpoint": "near"}) == 1
            assert b"themis_pipeline_llm_breaker_open" in generate_latest(registry)


async def test_the_docs_say_what_each_metric_is(tmp_path: Path) -> None:
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url)) as parts:
            await parts.llm.complete(asked(), parts.context())
            found = {}
            for family in LLMCollector(parts.accounts, parts.llm).collect():
                assert family.samples
                labels = {label for sample in family.samples for label in sample.labels} - {"le"}
                name = f"{family.name}_total" if family.type == "counter" else family.name
                found[name] = (family.type, labels)
    assert documented() == found


def documented() -> dict[str, tuple[str, set[str]]]:
    found = {}
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `themis_pipeline_llm_"):
            name, kind, labels, *rest = (cell.strip() for cell in line.strip("|").split(" | "))
            assert len(rest) == 3
            assert all(rest)
            found[name.strip("`")] = (kind, set(labels.split(", ")))
    return found
