"""Values that are read from files, and read again when those change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from themis_sidecar.logs import Logger
from themis_sidecar.security.errors import SecurityError

MAX_FILE_BYTES = 1024 * 1024

T = TypeVar("T")

Contents = tuple[bytes, ...]


class Watched(Protocol):
    async def poll(self) -> None:
        """Takes over what has changed, if it is good."""


class FileValue(Generic[T]):
    """`parse` makes the value of the files' contents and raises SecurityError; `value` is the last good one.

    Contents are compared, not times: a clock may be coarse, and a link may turn to a file that is older.
    """

    def __init__(self, what: str, paths: Sequence[Path], parse: Callable[[Contents], T], logger: Logger) -> None:
        """Raises SecurityError: a server does not start without its files."""
        self._what = what
        self._paths = tuple(paths)
        self._parse = parse
        self._logger = logger
        self._seen = self._read()
        self._problem = ""
        self.value = parse(self._seen)

    async def poll(self) -> None:
        """Never raises SecurityError: the last good value stays, and the log says once what is wrong."""
        try:
            contents = await asyncio.to_thread(self._read)
            if contents == self._seen:
                self._recovered()
                return
            value = await asyncio.to_thread(self._parse, contents)
        except SecurityError as error:
            self._rejected(str(error))
            return
        self._seen, self.value, self._problem = contents, value, ""
        self._logger.info("reloaded", what=self._what)

    def _read(self) -> Contents:
        return tuple(_content(path) for path in self._paths)

    def _recovered(self) -> None:
        """The files hold again what is in use."""
        if self._problem:
            self._problem = ""
            self._logger.info("reloaded", what=self._what)

    def _rejected(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._logger.error("reload_rejected", what=self._what, problem=problem)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SecurityError(f"{path}: {error.strerror or type(error).__name__}") from error
    if len(content) > MAX_FILE_BYTES:
        raise SecurityError(f"{path}: is larger than {MAX_FILE_BYTES} bytes")
    return content
