"""The name by which a process's transactions go: the same after a restart, and nobody else's meanwhile."""

from __future__ import annotations

import fcntl
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MAX_INSTANCES = 1000


class NoInstance(Exception):
    """No name could be had; the text says what to do."""


@contextmanager
def claimed(instance: str | None, prefix: str, folder: Path | None = None) -> Iterator[str]:
    """`instance` where it is given, else the machine's name with the lowest number that is free on it. It is held by a
    lock that ends with the process, however that ends. Raises NoInstance."""
    if instance is not None:
        yield instance
        return
    number, file = _lowest_free((folder or Path(tempfile.gettempdir()) / "themis-pipeline") / (prefix or "_"))
    with file:
        yield f"{socket.gethostname()}-{number}"


def _lowest_free(place: Path) -> tuple[int, BinaryIO]:
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number in range(MAX_INSTANCES):
            file = (place / f"{number}.lock").open("ab")
            if _locked(file):
                return number, file
            file.close()
    except OSError as error:
        raise NoInstance(f"runner.instance: is needed, for {error.filename} can't be used to choose one") from error
    raise NoInstance(f"runner.instance: is needed, for all numbers of this machine are taken in {place}")


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
