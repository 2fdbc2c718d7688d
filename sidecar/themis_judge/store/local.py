"""A store in a directory, which several machines may share."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from themis_judge.store.errors import StoreUnavailable
from themis_judge.store.files import AlreadyThere, Entry, NotThere

ASIDE = ".aside-"  # what is being written; a crash leaves it behind


class LocalFiles:
    """Files under `root`, which is made if it isn't there. A file appears under its name when its bytes are on the
    disk, never before."""

    def __init__(self, root: Path) -> None:
        self._root = root
        with _translated(root):
            root.mkdir(parents=True, exist_ok=True)

    def create(self, path: str, data: bytes) -> None:
        with self._aside(path) as (aside, target):
            aside.write_bytes(data)
            _sync(aside)
            try:
                os.link(aside, target)  # unlike a rename, fails if the name is taken
            except FileExistsError as error:
                raise AlreadyThere(path) from error
            _sync(target.parent)

    def replace(self, path: str, data: bytes) -> None:
        with self._aside(path) as (aside, target):
            aside.write_bytes(data)
            _sync(aside)
            aside.replace(target)
            _sync(target.parent)

    def put(self, source: Path, path: str) -> None:
        with self._aside(path) as (aside, target):
            shutil.copyfile(source, aside)
            _sync(aside)
            aside.replace(target)
            _sync(target.parent)

    def read(self, path: str) -> bytes:
        with _translated(path), _told_missing(path):
            return self._at(path).read_bytes()

    def get(self, path: str, target: Path) -> None:
        with _translated(path), _told_missing(path):
            shutil.copyfile(self._at(path), target)

    def children(self, folder: str) -> tuple[Entry, ...]:
        found = []
        with _translated(folder):
            try:
                with os.scandir(self._at(folder)) as entries:
                    listed = list(entries)
            except (FileNotFoundError, NotADirectoryError):
                return ()
            for entry in listed:
                with suppress(FileNotFoundError):  # gone since: another process has finished with it
                    state = entry.stat(follow_symlinks=False)
                    is_folder = entry.is_dir(follow_symlinks=False)
                    size, at_s = (0, 0.0) if is_folder else (state.st_size, state.st_mtime)
                    found.append(Entry(entry.name, is_folder, size, at_s))
        return tuple(sorted(found, key=lambda entry: entry.name))

    def delete(self, path: str) -> None:
        """Folders that this leaves empty go as well, as they would in an object store, except those directly in the
        root: somebody may be about to write there."""
        target = self._at(path)
        with _translated(path):
            target.unlink(missing_ok=True)
            for folder in target.parents:
                if self._root in (folder, folder.parent) or not _removed(folder):
                    return

    def local(self, path: str) -> Path | None:
        return self._at(path)

    def close(self) -> None:
        pass

    def _at(self, path: str) -> Path:
        return self._root / path

    @contextmanager
    def _aside(self, path: str) -> Iterator[tuple[Path, Path]]:
        """A path to write to, gone at the end, and the one where the file shall be."""
        target = self._at(path)
        with _translated(path):
            self._make(target.parent)
            aside = target.parent / f"{ASIDE}{secrets.token_hex(8)}"
            try:
                yield aside, target
            finally:
                aside.unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _sync(path: Path) -> None:
    """Brings a file's bytes, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told_missing(path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotThere(path) from error


@contextmanager
def _translated(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"the store's directory, at {path}: {error.strerror or error}") from error
