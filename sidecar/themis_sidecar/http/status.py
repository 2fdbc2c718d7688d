"""The status page: how one server is doing, for people as HTML and for programs as JSON."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from themis_sidecar.config import ServerConfig
from themis_sidecar.observe.failures import FailedCall
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.server import Server

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
HIDDEN = "**********"


class StatusPage:
    """One server's. Times of the clock in seconds since 1970."""

    def __init__(
        self,
        server: Server,
        config: ServerConfig,
        telemetry: Telemetry,
        software_version: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.server = server
        self._config = dict(settings(config))
        self._limits = config.limits
        self._telemetry = telemetry
        self._software_version = software_version
        self._clock = clock
        self._started_at = clock()
        self._template = Environment(
            loader=PackageLoader("themis_sidecar.http", ""),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        ).get_template("status.html")

    def report(self) -> dict[str, Any]:
        """What JSON can hold. Times in seconds."""
        state = self.server.state
        return {
            "software_version": self._software_version,
            "started_at": _iso(self._started_at),
            "uptime_s": round(self._clock() - self._started_at, 3),
            "ready": state.ready,
            "why_closed": state.why_closed,
            "versions": [asdict(version) for version in state.versions],
            "calls_in_flight": state.calls,
            "max_calls": self._limits.max_calls,
            "queue_tokens": state.queue_tokens,
            "max_queue_tokens": self._limits.max_queue_tokens,
            "tokens_per_s": state.tokens_per_s,
            "calls": self._telemetry.metrics.calls.totals(),
            "items": self._telemetry.metrics.items.totals(),
            "last_failures": [_failure(failed) for failed in self._telemetry.failures.latest()],
            "config": self._config,
        }

    def page(self) -> str:
        return self._template.render(self.report())


def settings(config: ServerConfig) -> Iterator[tuple[str, Any]]:
    """All settings by their dotted names; secrets, and credentials within addresses, are hidden."""
    for path, value in _leaves("", config.model_dump(mode="json")):
        yield path, _CREDENTIALS.sub(HIDDEN, value) if isinstance(value, str) else value


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{path}.{name}" if path else name, inner)
    else:
        yield path, value


def _failure(failed: FailedCall) -> dict[str, Any]:
    return asdict(failed) | {"at": failed.at.isoformat(timespec="milliseconds")}


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, timezone.utc).isoformat(timespec="seconds")
