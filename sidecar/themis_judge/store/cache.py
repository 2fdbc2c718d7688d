"""Versions of a remote store on this machine: whole and checked, or not there; bounded; shared by processes.

Each version's folder is locked (flock on the folder itself) by whoever uses it, so that no other process throws it out
and a process that dies holds nothing back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from themis_judge.store.checking import check_files
from themis_judge.store.codec import BadJson, decode, encode, parse
from themis_judge.store.errors import CacheFull, CorruptVersion, StoreUnavailable
from themis_judge.store.layout import is_version_id
from themis_judge.store.types import Manifest

_MAKING = ".making-"
_MANIFEST, _FILES = "manifest.json", "files"
Download = Callable[[Manifest, Path], None]


class Cache:
    """Under `folder`, at most `max_bytes` of versions' files; the one used longest ago goes first, and none that is
    in use. Safe to use from several threads and processes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._used: dict[str, int] = {}  # version: the handle that locks its folder
        self._lock = threading.Lock()
        self._downloading = threading.Lock()  # one at a time: they share the line

    def fetch(self, manifest: Manifest, download: Download) -> Path:
        """The folder with a version's files, which stays until a `keep` without it. Raises CacheFull, CorruptVersion,
        StoreUnavailable, and whatever `download` raises."""
        target = self._folder / manifest.id
        with self._downloading, _translated(target):
            if manifest.id not in self._used:
                handle = self._found(target, manifest) or self._made(target, manifest, download)
                with self._lock:
                    self._used[manifest.id] = handle
            os.utime(target)
        return target / _FILES

    def keep(self, versions: Collection[str]) -> None:
        """All others may be thrown out from now on; they stay while there is room."""
        with self._lock:
            for version in set(self._used).difference(versions):
                os.close(self._used.pop(version))

    def close(self) -> None:
        self.keep(())

    def _found(self, target: Path, manifest: Manifest) -> int | None:
        """The lock of a folder that is there and right; one that isn't is thrown out."""
        handle = _locked(target, fcntl.LOCK_SH)
        if handle is None:
            return None
        try:
            check_files(target / _FILES, manifest)
        except CorruptVersion:
            os.close(handle)
            with self._alone():
                self._throw_out(target)
            return None
        except BaseException:
            os.close(handle)
            raise
        return handle

    def _made(self, target: Path, manifest: Manifest, download: Download) -> int:
        making = self._folder / f"{_MAKING}{secrets.token_hex(8)}"
        with self._alone():
            self._make_room(manifest)
            making.mkdir()
            handle = os.open(making, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (making / _MANIFEST).write_bytes(encode(manifest))
            except BaseException:
                _discard(making, handle)
                raise
        try:
            download(manifest, making / _FILES)
            check_files(making / _FILES, manifest)
            with self._alone():  # whoever makes room must not see a lock between two, nor a folder that moves
                fcntl.flock(handle, fcntl.LOCK_SH)
                if _renamed(making, target):
                    return handle
        except BaseException:
            self._drop(making, handle)
            raise
        self._drop(making, handle)
        # Somebody else has made it meanwhile, or uses a copy that is damaged.
        other = self._found(target, manifest)
        if other is None:
            raise CorruptVersion(f"{manifest.id}: its copy in the cache is damaged, and another process uses it")
        return other

    def _drop(self, making: Path, handle: int) -> None:
        with self._alone():
            _discard(making, handle)

    def _make_room(self, manifest: Manifest) -> None:
        """Throws out folders, longest unused first, until the version fits; those being made count as full."""
        held = []
        for folder in self._folder.iterdir():
            making = folder.name.startswith(_MAKING)
            if not (making or is_version_id(folder.name)) or not folder.is_dir():
                continue  # somebody else's: it neither counts nor goes
            if making and self._throw_out(folder):
                continue  # its maker is dead
            held.append((folder.stat().st_mtime, _bytes(folder), folder))
        total = sum(size for _, size, _ in held) + manifest.bytes
        for _, size, folder in sorted(held):
            if total <= self._max_bytes:
                break
            if self._throw_out(folder):
                total -= size
        if total > self._max_bytes:
            raise CacheFull(
                f"{manifest.id} has {manifest.bytes} bytes; with what is in use the cache would hold {total}, "
                f"and its bound is {self._max_bytes}"
            )

    def _throw_out(self, folder: Path) -> bool:
        """Removes a folder unless somebody uses it."""
        handle = _locked(folder, fcntl.LOCK_EX)
        if handle is None:
            return not folder.exists()
        try:
            shutil.rmtree(folder)
        finally:
            os.close(handle)
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes from making room at the same time. Nothing that waits for a network happens in it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _discard(folder: Path, handle: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)


def _renamed(folder: Path, target: Path) -> bool:
    """False if the target is there."""
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _locked(folder: Path, kind: int) -> int | None:
    """A handle that locks a folder; None if it isn't there, or is locked, or went away meanwhile."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
        if os.stat(folder).st_ino == os.fstat(handle).st_ino:
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _bytes(folder: Path) -> int:
    """What a folder's files have, or will have when it is made."""
    try:
        return decode(Manifest, parse((folder / _MANIFEST).read_bytes())).bytes
    except (FileNotFoundError, BadJson):
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"the local cache, at {path}: {error.strerror or error}") from error
