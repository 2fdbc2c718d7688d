"""Settings of the HTTP port and of traces, and what they need."""

from __future__ import annotations

import sys

import pytest
from pydantic import ValidationError

from themis_sidecar.config import TracingConfig, read_command_line
from themis_sidecar.observe.otlp import MissingExtra
from themis_sidecar.observe.telemetry import open_telemetry

MODEL = ["--engine.model", "m"]


def test_nothing_is_opened_or_sent_unless_asked_for() -> None:
    config = read_command_line(MODEL).config
    assert config.http.port is None
    assert config.http.host == "127.0.0.1"
    assert config.tracing.otlp_endpoint is None


@pytest.mark.parametrize(
    "flags",
    [
        ["--http.port", "70000"],
        ["--http.max_connections", "0"],
        ["--tracing.otlp_endpoint", "collector:4317"],
        ["--tracing.sample_share", "1.5"],
    ],
)
def test_what_is_refused(flags: list[str]) -> None:
    with pytest.raises(ValidationError, match=flags[0].removeprefix("--")):
        read_command_line(MODEL + flags)


def test_traces_without_the_extra_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    telemetry = open_telemetry(TracingConfig(otlp_endpoint="http://collector:4317"), "1.2.3")
    with pytest.raises(MissingExtra, match="needs the extra 'tracing'"):
        telemetry.__enter__()
