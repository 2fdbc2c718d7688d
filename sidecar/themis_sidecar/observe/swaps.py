"""Metrics of versions: which one is current, and how changes went."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from themis_judge.version import JudgeVersion
from themis_sidecar.observe.families import Children

LOADS = (0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


class SwapMetrics:
    """Told by whoever loads and promotes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._promotions = Counter("themis_version_promotions", "Times another version took over.", registry=registry)
        self._rollbacks = Counter("themis_version_rollbacks", "Times a version was taken back.", registry=registry)
        self._loads = Children(
            Histogram(
                "themis_version_load_seconds",
                "How long loading a version took.",
                ("outcome",),
                buckets=LOADS,
                registry=registry,
            )
        )
        for outcome in ("ok", "failed"):  # as for calls: the first failure must be an increase
            self._loads(outcome)
        self._current = Children(
            Gauge(
                "themis_version_current",
                "1 for the version that answers calls which name none.",
                ("base_model", "engine", "version"),
                registry=registry,
            )
        )
        self._now: str | None = None

    def load_ended(self, seconds: float, ok: bool) -> None:
        self._loads("ok" if ok else "failed").observe(seconds)

    def started(self, version: JudgeVersion) -> None:
        """The server begins with `version` as its current one."""
        self._make_current(version)

    def promoted(self, version: JudgeVersion) -> None:
        self._promotions.inc()
        self._make_current(version)

    def rolled_back(self) -> None:
        """This replica had the fleet go back to what it had before; each replica follows by a promotion, if at all."""
        self._rollbacks.inc()

    def forget_version(self, version: str) -> None:
        self._current.forget(version)

    def _make_current(self, version: JudgeVersion) -> None:
        if self._now is not None:
            self._current.forget(self._now)
        self._now = version.id
        self._current(version.base_model, version.engine, version.id).set(1)
