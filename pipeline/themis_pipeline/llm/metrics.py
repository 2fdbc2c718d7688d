"""Tells Prometheus what the accounts hold, and how breakers, queues and budgets are. docs/metrics.md says what each
metric means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from themis_pipeline.llm.accounts import SECONDS, Accounts, Totals
from themis_pipeline.llm.client import JournaledLLM

_PREFIX = "themis_pipeline_llm_"
_MICRO = 1e-6
_WHOSE = ("endpoint", "stage")
_BOUNDS = (*map(str, SECONDS), "+Inf")

_BY_OUTCOME: dict[str, tuple[str, Callable[[Totals], Mapping[str, float]]]] = {
    "calls": ("Calls, by what their callers got.", lambda one: one.answers),
    "attempts": ("Requests to the endpoint, by how they ended.", lambda one: one.attempts),
    "tokens": ("Tokens paid for.", lambda one: {"prompt": one.prompt_tokens, "completion": one.completion_tokens}),
    "cost": (
        "What answers cost, and what attempts may have cost that gave none, in the currency of the prices.",
        lambda one: {"answered": one.cost_micros * _MICRO, "unsure": one.unsure_micros * _MICRO},
    ),
}
_PLAIN: dict[str, tuple[str, Callable[[Totals], float]]] = {
    "retries": ("Requests after a call's first.", lambda one: one.retries),
    "journal_hits": ("Answers that were paid before.", lambda one: one.from_journal),
    "journal_doubled": ("Answers paid here that another process had paid already.", lambda one: one.doubled),
    "journal_unwritten": ("Answers used before they could be written.", lambda one: one.unjournaled),
}
_SECOND_LABEL = {"calls": "outcome", "attempts": "outcome", "tokens": "kind", "cost": "kind"}


class LLMCollector(Collector):
    """To be registered once a process."""

    def __init__(self, accounts: Accounts, llm: JournaledLLM) -> None:
        self._accounts, self._llm = accounts, llm

    def collect(self) -> Iterator[Metric]:
        totals = [((endpoint, stage), one) for (stage, endpoint), one in self._accounts.snapshot().items()]
        for name, (text, parts) in _BY_OUTCOME.items():
            counter = CounterMetricFamily(_PREFIX + name, text, labels=(*_WHOSE, _SECOND_LABEL[name]))
            for whose, one in totals:
                for part, value in parts(one).items():
                    counter.add_metric((*whose, part), value)
            yield counter
        for name, (text, count) in _PLAIN.items():
            counter = CounterMetricFamily(_PREFIX + name, text, labels=_WHOSE)
            for whose, one in totals:
                counter.add_metric(whose, count(one))
            yield counter
        seconds = HistogramMetricFamily(_PREFIX + "attempt_seconds", "One request to the endpoint.", labels=_WHOSE)
        for whose, one in totals:
            seconds.add_metric(whose, list(zip(_BOUNDS, accumulate(one.seconds), strict=True)), one.seconds_sum)
        yield seconds
        yield from self._states()

    def _states(self) -> Iterator[Metric]:
        by_endpoint = {
            "breaker_open": ("1 while calls are kept away from the endpoint, for it failed.", self._llm.left_alone()),
            "waiting_calls": ("Calls that wait for their turn at the endpoint.", self._llm.waiting()),
        }
        for name, (text, values) in by_endpoint.items():
            gauge = GaugeMetricFamily(_PREFIX + name, text, labels=("endpoint",))
            for endpoint, value in values.items():
                gauge.add_metric((endpoint,), value)
            yield gauge
        left = GaugeMetricFamily(
            _PREFIX + "budget_left", "What the fleet may still spend, as this process last saw it.", labels=("stage",)
        )
        for stage, budget in self._llm.budgets:
            left.add_metric((stage,), budget.left_micros * _MICRO)
        yield left
