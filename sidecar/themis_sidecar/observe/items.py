"""Metrics of items: what became of them, what they took, and what the judge said."""

from __future__ import annotations

from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram

from themis_judge.engines.base import Usage
from themis_judge.items import Classification, CompareResult, Result, Status
from themis_sidecar.observe.families import SECONDS, Children

TENTHS = tuple(n / 10 for n in range(1, 11))
MASSES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Outcome(Protocol):
    """What became of one item, of whatever kind."""

    @property
    def status(self) -> Status: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def tokenised_s(self) -> float: ...
    @property
    def off_format(self) -> str: ...


class ItemMetrics:
    """Labels are bounded: methods and statuses by the contract, scenarios by what is loaded, versions by what is
    resident (forget_version)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Children[Counter]:
            return Children(Counter(name, meaning, labels, registry=registry))

        def histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Children[Histogram]:
            return Children(Histogram(name, meaning, labels, buckets=buckets, registry=registry))

        self._items = counter("themis_items", "Items answered.", "method", "status", "version")
        self._off_format = counter("themis_off_format", "Items without a verdict, by why.", "reason", "version")
        self._prompt = counter("themis_prompt_tokens", "Prompt tokens, cached ones included.", "version")
        self._cached = counter("themis_cached_tokens", "Prompt tokens that were held or shared.", "version")
        self._completion = counter("themis_completion_tokens", "Tokens that the judge wrote.", "version")
        stages = histogram("themis_item_stage_seconds", "Time of judged items in each stage.", SECONDS, "stage")
        self._queued, self._tokenised, self._computed = map(stages, ("queued", "tokenised", "computed"))
        self._score = histogram("themis_score", "Scores, 0 to 1.", TENTHS, "scenario", "version")
        self._mass = histogram("themis_label_mass", "Label mass of verdicts.", MASSES, "version")

    def answered(self, method: str, version: str, outcome: Outcome) -> None:
        status, usage = outcome.status, outcome.usage
        self._items(method, status.name, version).inc()
        if usage.prompt_tokens:
            self._prompt(version).inc(usage.prompt_tokens)
            self._cached(version).inc(usage.cached_tokens)
            self._completion(version).inc(usage.completion_tokens)
        if status is Status.OK:
            self._queued.observe(usage.queued_s)
            self._tokenised.observe(outcome.tokenised_s)
            self._computed.observe(usage.computed_s)
            self._said(version, outcome)
        elif status is Status.OFF_FORMAT:
            self._off_format(outcome.off_format, version).inc()

    def totals(self) -> list[dict[str, str | int]]:
        """Of all versions that are resident."""
        return self._items.totals("method", "status")

    def forget_version(self, version: str) -> None:
        for counter in (self._items, self._off_format, self._prompt, self._cached, self._completion):
            counter.forget(version)
        for histogram in (self._score, self._mass):
            histogram.forget(version)

    def _said(self, version: str, outcome: Outcome) -> None:
        mass = None
        if isinstance(outcome, Result) and outcome.verdict is not None:
            self._score(outcome.scenario, version).observe(outcome.verdict.score)
            mass = outcome.verdict.rating.label_mass
        elif isinstance(outcome, CompareResult) and outcome.verdict is not None:
            mass = outcome.verdict.label_mass
        elif isinstance(outcome, Classification):
            mass = outcome.label_mass
        if mass is not None:
            self._mass(version).observe(mass)
