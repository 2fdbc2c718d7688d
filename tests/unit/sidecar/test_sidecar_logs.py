"""Log lines: one object a line, and nobody's text unless it is asked for."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import Any

import pytest

from themis_sidecar.config import LogConfig
from themis_sidecar.logs import LibraryHandler, loop_error_handler, make_logger

CANARY = "canary-77d0"


def fail() -> Exception:
    try:
        try:
            raise ValueError(CANARY)
        except ValueError as error:
            raise RuntimeError(f"because {CANARY}") from error
    except RuntimeError as error:
        return error


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_object_a_line() -> None:
    stream = io.StringIO()
    make_logger(LogConfig(), stream).info("call", method="Score", note="two\nlines")
    [line] = lines(stream)
    assert (line["event"], line["level"], line["method"]) == ("call", "info", "Score")
    assert line["timestamp"].endswith("Z")


def test_levels() -> None:
    stream = io.StringIO()
    logger = make_logger(LogConfig(level="warning"), stream)
    logger.info("no")
    logger.warning("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_console_lines() -> None:
    stream = io.StringIO()
    make_logger(LogConfig(format="console"), stream).info("serving", address="here")
    assert "serving" in stream.getvalue()
    assert "address=here" in stream.getvalue()


@pytest.mark.parametrize("log_text", [False, True])
def test_errors_tell_places_and_say_text_only_if_asked(log_text: bool) -> None:
    stream = io.StringIO()
    make_logger(LogConfig(log_text=log_text), stream).error("incident", error=fail())
    [line] = lines(stream)
    assert "RuntimeError" in line["error"]
    assert "ValueError" in line["traceback"]
    assert "test_sidecar_logs.py" in line["traceback"]
    assert (CANARY in stream.getvalue()) is log_text


def test_libraries_lines_are_ours_and_quote_no_exception() -> None:
    stream = io.StringIO()
    library = logging.getLogger("some.library")
    handler = LibraryHandler(make_logger(LogConfig(), stream))
    library.addHandler(handler)
    library.info("no")
    library.warning("port %d", 3)
    error = fail()
    library.error("failed: %s", error, exc_info=error)
    library.removeHandler(handler)
    warning, failure = lines(stream)
    assert (warning["source"], warning["message"], warning["level"]) == ("some.library", "port 3", "warning")
    assert failure["level"] == "error"
    assert CANARY not in stream.getvalue()


async def test_errors_of_lost_tasks_quote_no_exception() -> None:
    stream = io.StringIO()
    handle = loop_error_handler(make_logger(LogConfig(), stream))
    handle(asyncio.get_running_loop(), {"message": "Task exception was never retrieved", "exception": fail()})
    [line] = lines(stream)
    assert line["event"] == "task_failed"
    assert CANARY not in stream.getvalue()
