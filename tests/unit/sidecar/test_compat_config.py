"""Settings of the reward routes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from themis_sidecar.config import read_command_line

MODEL = ["--engine.model", "m"]
ON = [*MODEL, "--http.port", "0", "--http.compat.enabled", "true"]

OPEN_MARKERS = ["--http.compat.template", "markers", "--http.compat.markers.generation", "A:"]
OPEN_MARKERS += ["--http.compat.markers.starts", '{"user": "U:"}']


def test_the_routes_are_off_unless_asked_for() -> None:
    assert not read_command_line([*MODEL, "--http.port", "0"]).config.http.compat.enabled
    assert read_command_line(ON).config.http.compat.enabled


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([*MODEL, "--http.compat.enabled", "true"], "needs http.port"),
        ([*ON, "--http.compat.template", "vicuna"], "http.compat.template"),
        ([*ON, "--http.compat.template", "markers"], "needs the start of a user's turn"),
        ([*ON, "--http.compat.markers.end", "x"], "are read with template markers only"),
        ([*ON, "--http.compat.truncated", "score"], "truncated_score"),
        ([*ON, "--http.compat.truncated_score", "0"], "goes with truncated score"),
        ([*ON, "--http.compat.empty_score", "1.5"], "empty_score"),
        ([*ON, "--http.compat.template", "plain", "--http.compat.truncated", "fail"], "the template plain has none"),
        (
            [*ON, "--http.compat.template", "plain", "--http.compat.truncated", "score"],
            "the template plain has none",
        ),
        ([*ON, *OPEN_MARKERS, "--http.compat.truncated", "fail"], "the template markers has none"),
        ([*ON, "--http.compat.think.opening", ""], "think.opening"),
        ([*ON, "--http.compat.rewards_scale.low", "inf"], "rewards_scale.low"),
        ([*ON, "--http.compat.timeout_s", "0"], "timeout_s"),
        ([*ON, "--http.compat.max_body_bytes", "0"], "max_body_bytes"),
    ],
)
def test_what_does_not_go_together_is_refused(flags: list[str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        read_command_line(flags)


def test_replies_may_be_cut_off_where_their_end_is_told() -> None:
    cut = ["--http.compat.truncated", "fail"]
    assert read_command_line([*ON, *cut]).config.http.compat.truncated == "fail"
    ended = [*OPEN_MARKERS, "--http.compat.markers.stops", '["$"]']
    assert read_command_line([*ON, *ended, *cut]).config.http.compat.policy_template().ended("4$")
    assert read_command_line([*ON, *OPEN_MARKERS]).config.http.compat.truncated == "judge"


def test_the_tags_of_reasoning_can_be_set() -> None:
    tags = ["--http.compat.think.opening", "[THINK]", "--http.compat.think.closing", "[/THINK]"]
    assert read_command_line([*ON, *tags]).config.http.compat.think.tags == ("[THINK]", "[/THINK]")


def test_markers_can_be_given_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "engine: {model: m}\nhttp:\n  port: 0\n  compat:\n    enabled: true\n    template: markers\n    markers:\n"
        '      starts: {user: "<|user|>\\n", assistant: "<|assistant|>\\n"}\n      end: "<|end|>"\n      gap: "\\n"\n'
        '      generation: "<|assistant|>\\n"\n      stops: ["<|endoftext|>"]\n',
        encoding="utf-8",
    )
    markers = read_command_line(["--config", str(file)]).config.http.compat.markers.markers()
    assert markers.starts == {"user": "<|user|>\n", "assistant": "<|assistant|>\n"}
    assert markers.stops == ("<|endoftext|>",)


def test_tokens_do_not_travel_in_plaintext_unless_told(tmp_path: Path) -> None:
    guarded = [*ON, "--security.callers_file", str(tmp_path / "callers.yaml")]
    assert read_command_line(guarded).config.http.compat.enabled  # on the loopback address
    with pytest.raises(ValidationError, match=r"tokens would travel in plaintext to 0\.0\.0\.0"):
        read_command_line([*guarded, "--http.host", "0.0.0.0"])
    told = read_command_line([*guarded, "--http.host", "0.0.0.0", "--security.plaintext_tokens", "true"]).config
    assert told.http.host == "0.0.0.0"


def test_certificates_alone_would_shut_everybody_out(tmp_path: Path) -> None:
    tls = [f"--security.tls.{name}={tmp_path / name}" for name in ("cert_file", "key_file", "client_ca_file")]
    with pytest.raises(ValidationError, match=r"set security\.callers_file"):
        read_command_line([*ON, *tls])
