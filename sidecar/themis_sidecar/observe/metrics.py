"""All metrics of one server, in a registry of its own. docs/metrics.md says what each means."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from themis_judge.engines.base import Batch
from themis_proto.v1 import judge_pb2, versions_pb2
from themis_sidecar.calls import CallRecord
from themis_sidecar.observe.families import POWERS_OF_TWO, SECONDS, Children
from themis_sidecar.observe.items import ItemMetrics
from themis_sidecar.observe.swaps import SwapMetrics

SERVICES = (
    judge_pb2.DESCRIPTOR.services_by_name["JudgeService"],
    versions_pb2.DESCRIPTOR.services_by_name["VersionService"],
)


class CallMetrics:
    """Calls as a whole."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Children(
            Counter("themis_calls", "Calls that ended.", ("method", "code"), registry=registry),
        )
        self._seconds = Children(
            Histogram(
                "themis_call_duration_seconds",
                "From a call's arrival to its end.",
                ("method",),
                buckets=SECONDS,
                registry=registry,
            )
        )
        self._items = Children(
            Histogram(
                "themis_call_items",
                "Items that a call asked for; a stream's when it ended.",
                ("method",),
                buckets=POWERS_OF_TWO,
                registry=registry,
            )
        )

        self.expect(method.name for service in SERVICES for method in service.methods)

    def expect(self, methods: Iterable[str]) -> None:
        """A series that begins with 1 is no increase to Prometheus: alerts on these codes would miss the first one."""
        for method in methods:
            for code in ("INTERNAL", "RESOURCE_EXHAUSTED"):
                self._calls(method, code)

    def ended(self, record: CallRecord) -> None:
        self._calls(record.method, record.code.name).inc()
        self._seconds(record.method).observe(record.duration_s)
        if record.items:
            self._items(record.method).observe(record.items)

    def totals(self) -> list[dict[str, str | int]]:
        return self._calls.totals("method", "code")


class EngineMetrics:
    """The engine's batches, told by its own thread, and its end."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._items = Histogram(
            "themis_engine_batch_items", "Prompts that the engine computed at once.", buckets=POWERS_OF_TWO,
            registry=registry,
        )  # fmt: skip
        self._tokens = Histogram(
            "themis_engine_batch_tokens",
            "Tokens that a batch had to compute, shared ones once.",
            buckets=tuple(float(2**n) for n in range(4, 17)),
            registry=registry,
        )
        self._seconds = Histogram(
            "themis_engine_batch_duration_seconds",
            "How long the engine computed a batch.",
            buckets=SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "themis_engine_failures", "Times that the engine died or got stuck.", registry=registry
        )

    def batch(self, batch: Batch) -> None:
        """A BatchObserver."""
        self._items.observe(batch.items)
        self._tokens.observe(batch.tokens)
        self._seconds.observe(batch.seconds)

    def failed(self) -> None:
        self._failures.inc()


class Metrics:
    """One server's. Nothing is registered elsewhere, so that several servers may live in one process."""

    def __init__(self, software_version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.calls = CallMetrics(self.registry)
        self.items = ItemMetrics(self.registry)
        self.engine = EngineMetrics(self.registry)
        self.swaps = SwapMetrics(self.registry)
        build = Gauge(
            "themis_build_info", "1; the labels say what runs.", ("version", "python"), registry=self.registry
        )
        build.labels(software_version, platform.python_version()).set(1)

    def watch(self, ready: Callable[[], bool], calls: Callable[[], int], queue_tokens: Callable[[], int]) -> None:
        """Reads these at each scrape, from a thread. Once per server."""
        watched: tuple[tuple[str, str, Callable[[], int]], ...] = (
            ("themis_ready", "Whether the server takes calls: 1 or 0.", lambda: int(ready())),
            ("themis_calls_in_flight", "Calls being served, streams included.", calls),
            ("themis_queue_tokens", "Tokens admitted and not yet answered.", queue_tokens),
        )
        for name, meaning, read in watched:
            Gauge(name, meaning, registry=self.registry).set_function(read)

    def forget_version(self, version: str) -> None:
        """Drops the series of a version that is no longer resident: their number must not grow with every version
        that ever was."""
        self.items.forget_version(version)
        self.swaps.forget_version(version)
