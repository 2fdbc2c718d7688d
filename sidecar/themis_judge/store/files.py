"""Where a store's files lie: the few operations that a directory and an object store have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class NotThere(Exception):
    """No file at this path."""


class AlreadyThere(Exception):
    """A file is at this path already."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One child of a folder. modified_at_s: seconds since 1970 by the store's own clock, 0 for a folder."""

    name: str
    is_folder: bool
    bytes: int = 0
    modified_at_s: float = 0.0


class Files(Protocol):
    """Paths are relative to the store's root and use `/`. Every method may raise StoreUnavailable, and returns within
    a bounded time where the store is behind a network. Safe to use from several threads and processes."""

    def create(self, path: str, data: bytes) -> None:
        """Writes a whole file if none is there, in one step that survives a crash, and of several callers at most one
        succeeds. Raises AlreadyThere."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Writes a whole file in one step, in place of what is there."""
        ...

    def read(self, path: str) -> bytes:
        """Raises NotThere."""
        ...

    def children(self, folder: str) -> tuple[Entry, ...]:
        """Files and folders directly in a folder, by name; none if it doesn't exist."""
        ...

    def put(self, source: Path, path: str) -> None:
        """Copies a local file into the store. What lies there is replaced."""
        ...

    def get(self, path: str, target: Path) -> None:
        """Copies a file of the store to a local path. Raises NotThere."""
        ...

    def delete(self, path: str) -> None:
        """Removes a file; none there is as good."""
        ...

    def local(self, path: str) -> Path | None:
        """Where a path lies on this machine; None if it has to be fetched."""
        ...

    def close(self) -> None:
        """Lets go of connections. Nothing may be called after it."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A file with its path from the store's root on."""

    path: str
    bytes: int
    modified_at_s: float


def walk(files: Files, folder: str) -> list[Found]:
    """Every file under a folder."""
    found = []
    for entry in files.children(folder):
        path = f"{folder}/{entry.name}"
        if entry.is_folder:
            found += walk(files, path)
        else:
            found.append(Found(path, entry.bytes, entry.modified_at_s))
    return found
