"""Log lines: one event a line, and no text of a record, a prompt or an answer in any of them."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from themis_pipeline.config import LogConfig

Logger = FilteringBoundLogger

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def make_logger(config: LogConfig, stream: TextIO) -> Logger:
    """Exceptions are given by keyword `error`."""
    renderer: Processor = (
        structlog.processors.JSONRenderer() if config.format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[config.level]),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _write_error,
            renderer,
        ],
    )
    return logger


def _write_error(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    error = event.get("error")
    if isinstance(error, BaseException):
        event["error"] = type(error).__qualname__
        event["traceback"] = "".join(_frames(error))
    return event


def _frames(error: BaseException) -> list[str]:
    """Only types and places: a message may quote a record."""
    lines = [*traceback.format_tb(error.__traceback__), f"{type(error).__qualname__}\n"]
    earlier = error.__cause__ or error.__context__
    return lines if earlier is None else [*_frames(earlier), "then:\n", *lines]


class LibraryHandler(logging.Handler):
    """Turns libraries' own log records into lines of ours."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        # With an exception at hand the message tends to quote it.
        message = record.getMessage() if error is None else str(record.msg)
        self._logger.log(record.levelno, "library", source=record.name, message=message, error=error)


@contextmanager
def libraries_lines_to(logger: Logger) -> Iterator[None]:
    """In place of whatever takes them elsewhere."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = [LibraryHandler(logger)]
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)


def loop_error_handler(logger: Logger) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """For errors in tasks that nobody waits for any more."""

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        logger.error("task_failed", message=context["message"], error=context.get("exception"))

    return handle
