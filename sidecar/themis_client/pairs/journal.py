"""The run's memory: a file beside the output with what became of each row, in the order of the input.

Its first line says what it belongs to; each other line is a record. A line counts once its end is there, so that a
process killed in the middle of one leaves nothing behind that could be taken for a record. A run that goes on writes
a new file, into which it takes what holds, and exchanges the two when it has taken all, or is stopped and has taken the
rest as it was: until then the old one stands.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from themis_client.errors import BadRequest
from themis_client.pairs import record
from themis_client.pairs.record import Record

if sys.platform != "win32":
    import fcntl

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Header:
    """What the records depend on. input: its digest. flags: those that change what comes out, by name."""

    version: str
    input: str
    flags: Mapping[str, Any]

    def line_json(self) -> str:
        return json.dumps({"label_pairs": FORMAT, "version": self.version, "input": self.input, "flags": self.flags})

    def differences(self, asked: Header) -> list[str]:
        """Why a run that was asked for can't go on from here; empty if it can."""
        found = [] if asked.input == self.input else ["the input is another one, or was changed"]
        for name in sorted({*self.flags, *asked.flags}):
            before, now = self.flags.get(name), asked.flags.get(name)
            if before != now:
                found.append(f"--{name} was {before}, and is {now}")
        if asked.version != self.version:
            found.append(f"--version was {self.version}, and is {asked.version}")
        return found


class Journal:
    """What stands in the file. header: None where there is none yet. held: what is locked until its end."""

    def __init__(self, path: Path, held: ExitStack) -> None:
        self._path = path
        self._held = held
        self.header = _header(path)

    def records(self) -> Iterator[Record]:
        """Those that are whole, as the file is now. Raises BadRequest for a line that is none."""
        with self._path.open("rb") as file:
            next(file, None)
            for number, line in enumerate(file, start=2):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield record.parse(line)
                except (ValueError, KeyError, TypeError) as error:
                    raise BadRequest(f"{self._path}, line {number}: this is no record: {error!r}") from error

    @contextmanager
    def renewing(self, header: Header) -> Iterator[Renewal]:
        """The file that takes the place of this one. What was published stays, whatever happens."""
        path = self._path.with_name(f"{self._path.name}.next")
        # Once it is the journal its lock is the one that keeps others out, until the pairs are written too.
        file = self._held.enter_context(path.open("wb", buffering=0))
        try:
            _lock(file, path)
            yield Renewal(path, file, self._path, header)
        finally:
            path.unlink(missing_ok=True)


class Renewal:
    """A journal that is written. Each record is with the operating system when append() returns. empty: it has none."""

    def __init__(self, path: Path, file: IO[bytes], target: Path, header: Header) -> None:
        self._path = path
        self._file = file
        self._target = target
        self._published = False
        self.empty = True
        self._write(header.line_json())

    def append(self, entry: Record) -> None:
        self._write(entry.line_json())
        self.empty = False

    def publish(self) -> None:
        """From now on this is the journal: all that the former one held is in it."""
        if not self._published:
            os.fsync(self._file.fileno())
            os.replace(self._path, self._target)
            self._published = True

    def _write(self, line: str) -> None:
        left = memoryview(f"{line}\n".encode())
        while left:
            left = left[self._file.write(left) :]


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """The journal at a path, for this process alone; a new one that got nothing leaves nothing behind. Raises
    BadRequest where another process has it or it is no journal, and OSError."""
    with ExitStack() as held:
        file = held.enter_context(path.open("ab"))
        _lock(file, path)
        try:
            yield Journal(path, held)
        finally:
            if not path.stat().st_size:
                path.unlink()


def _lock(file: IO[bytes], path: Path) -> None:
    """Until the file is closed, which the end of a process does too."""
    if sys.platform == "win32":
        raise BadRequest("themis label-pairs needs locks and exchanges of open files, which Windows does not have")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BadRequest(f"{path}: another run is writing it") from error
    if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise BadRequest(f"{path}: another run has just written it")


def _header(path: Path) -> Header | None:
    """None where not even the header was written whole: nothing was judged then."""
    with path.open("rb") as file:
        line = file.readline()
    if not line.endswith(b"\n"):
        return None
    try:
        value = json.loads(line)
        if value["label_pairs"] != FORMAT:
            raise BadRequest(f"{path} is of another release: its format is {value['label_pairs']!r}")
        return Header(value["version"], value["input"], value["flags"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{path} is no journal of themis label-pairs") from error
