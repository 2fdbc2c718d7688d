"""The small parts: statuses, the ready file, the watchdog, engines by name."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydantic import SecretStr

from themis_judge.engines.openai import OpenAIEngine
from themis_sidecar import errors
from themis_sidecar.config import EngineConfig, LogConfig, OpenAIConfig
from themis_sidecar.engines import build_engine
from themis_sidecar.errors import CallError, InvalidCall
from themis_sidecar.logs import make_logger
from themis_sidecar.ready import ReadyFile
from themis_sidecar.status import status_of
from themis_sidecar.watchdog import Watchdog


def test_every_error_of_a_call_has_a_status() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CallError)]
    made = [
        InvalidCall("items", "is empty"),
        errors.Overloaded("full", 1.5),
        errors.UnknownVersion("x"),
        errors.Unavailable("x"),
        errors.CallerGone("x"),
        errors.CallTimeout("x"),
        errors.Unauthenticated("x"),
        errors.Forbidden("x"),
        errors.FailedPrecondition("x"),
        errors.Conflict("x"),
        errors.TooLarge("x"),
    ]
    assert {type(error) for error in made} | {CallError} == set(kinds)
    codes = [status_of(error).code.name for error in made]
    assert codes == [
        "INVALID_ARGUMENT",
        "RESOURCE_EXHAUSTED",
        "NOT_FOUND",
        "UNAVAILABLE",
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "INVALID_ARGUMENT",
    ]


def test_pushback_is_in_milliseconds() -> None:
    trailers = dict(status_of(errors.Overloaded("full", 0.1)).trailers)
    assert trailers["grpc-retry-pushback-ms"] == "100"


def test_the_ready_file_comes_whole_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    ready = ReadyFile(path)
    ready.remove()
    ready.write("127.0.0.1:5")
    assert path.read_text() == "127.0.0.1:5\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["ready"]
    ready.remove()
    assert not path.exists()


def test_without_a_ready_file_nothing_happens() -> None:
    ready = ReadyFile(None)
    ready.write("127.0.0.1:5")
    ready.remove()


async def test_the_watchdog_turns_callers_away_before_it_ends_the_process() -> None:
    answers = iter([None, None, "stuck"])
    happened: list[str] = []

    async def shut(reason: str) -> None:
        happened.append(f"shut: {reason}")

    await Watchdog(
        lambda: next(answers),
        shut,
        lambda code: happened.append(f"exit {code}"),
        make_logger(LogConfig(), io.StringIO()),
        poll_s=0,
    ).run()
    assert happened == ["shut: stuck", "exit 70"]


@pytest.mark.parametrize("by_file", [False, True])
async def test_the_openai_engine(by_file: bool, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("hidden\n")
    own = OpenAIConfig(api_key_file=file) if by_file else OpenAIConfig(api_key=SecretStr("hidden"))
    engine = build_engine(EngineConfig(kind="openai", model="m", openai=own), stuck_after_s=1)
    assert isinstance(engine, OpenAIEngine)
    assert engine.info.model == "m"
    await engine.unload()
