"""A store behind a network, by fsspec: S3 and what speaks its protocol (verified with s3fs), others that fsspec reaches
asynchronously and that can create a file exclusively."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

from themis_judge.store.errors import StoreError, StoreUnavailable
from themis_judge.store.files import AlreadyThere, Entry, NotThere

T = TypeVar("T")

PROBE = "exclusive-create"
_SLOWEST_BYTES_PER_S = 1 << 20  # a transfer slower than this has failed


class RemoteFiles:
    """`timeout_s`: the longest a call may take, beside the bytes that it moves at 1 MiB a second."""

    def __init__(self, url: str, options: Mapping[str, Any], timeout_s: float) -> None:
        import fsspec  # type: ignore[import-untyped]
        from fsspec.asyn import AsyncFileSystem  # type: ignore[import-untyped]

        # An instance of our own: a listing that another part of the process cached would be an old one.
        options = {"skip_instance_cache": True, "use_listings_cache": False, **options}
        try:
            fs, root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise StoreError(f"{url}: {error}") from error
        if not isinstance(fs, AsyncFileSystem):
            raise StoreError(f"{url}: its calls can't be given a deadline; use a directory or an object store")
        self._fs: Any = fs
        self._url = url
        self._root = root.rstrip("/")
        self._timeout_s = timeout_s
        self._exclusive = False
        self._exclusive_lock = threading.Lock()

    def create(self, path: str, data: bytes) -> None:
        self._require_exclusive()
        self._create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        self._call(path, self._fs._pipe_file, self._at(path), data, size=len(data))

    def put(self, source: Path, path: str) -> None:
        self._call(path, self._fs._put_file, str(source), self._at(path), size=source.stat().st_size)

    def read(self, path: str) -> bytes:
        found: bytes = self._call(path, self._fs._cat_file, self._at(path))
        return found

    def get(self, path: str, target: Path) -> None:
        size = self._call(path, self._fs._info, self._at(path))["size"]
        self._call(path, self._fs._get_file, self._at(path), str(target), size=size)

    def children(self, folder: str) -> tuple[Entry, ...]:
        at = self._at(folder)
        try:
            listed = self._call(folder, self._fs._ls, at, detail=True)
        except NotThere:
            return ()
        # A folder that was made by hand lists itself as an empty file.
        inside = (info for info in listed if info["name"].rstrip("/") != at)
        return tuple(sorted(map(_entry, inside), key=lambda entry: entry.name))

    def delete(self, path: str) -> None:
        try:
            self._call(path, self._fs._rm_file, self._at(path))
        except NotThere:
            return

    def local(self, path: str) -> Path | None:
        return None

    def close(self) -> None:
        from fsspec.asyn import sync

        client = getattr(self._fs, "_s3", None)
        if client is not None:
            with suppress(*_failures()):  # nothing is lost with a connection that doesn't close
                sync(self._fs.loop, client.close, timeout=self._timeout_s)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _create(self, path: str, data: bytes) -> None:
        try:
            self._call(path, self._fs._pipe_file, self._at(path), data, mode="create", size=len(data))
        except (AlreadyThere, StoreUnavailable):
            # A call that is tried again after its answer was lost meets what it wrote itself, and a store that is
            # asked twice at a time may turn away both with an error of its own.
            if not self._holds(path, data):
                raise

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            found = self.read(path)
        except NotThere:
            return False
        if found != data:
            raise AlreadyThere(path)
        return True

    def _require_exclusive(self) -> None:
        """Everything rests on exclusive creation, which some stores take no notice of: asks once whether a second
        creation is turned away."""
        with self._exclusive_lock:
            if self._exclusive:
                return
            if not (self._turned_away(b"first") or self._turned_away(b"second")):
                raise StoreError(
                    f"{self._url} lets a file be created that is there already: two replicas could both win. "
                    "Use a store that heeds If-None-Match"
                )
            self._exclusive = True

    def _turned_away(self, content: bytes) -> bool:
        try:
            self._call(PROBE, self._fs._pipe_file, self._at(PROBE), content, mode="create")
        except AlreadyThere:
            return True
        return False

    def _call(
        self, path: str, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, size: int = 0, **kwargs: Any
    ) -> T:
        """The one way out: a call with a deadline, its errors in this store's words."""
        from fsspec.asyn import sync

        timeout_s = self._timeout_s + size / _SLOWEST_BYTES_PER_S
        try:
            found: T = sync(self._fs.loop, function, *args, timeout=timeout_s, **kwargs)
        except FileExistsError as error:
            raise AlreadyThere(path) from error
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":  # a mistyped address must not look like an empty store
                raise StoreUnavailable(f"{self._url}: no such bucket") from error
            raise NotThere(path) from error
        except TimeoutError as error:  # fsspec's own is one
            raise StoreUnavailable(f"{self._url}, at {path}: no answer within {timeout_s:.0f} s") from error
        except _failures() as error:
            raise StoreUnavailable(f"{self._url}, at {path}: {error}") from error
        return found


def _entry(info: Mapping[str, Any]) -> Entry:
    name = info["name"].rstrip("/").rpartition("/")[2]
    if info["type"] == "directory":
        return Entry(name, True)
    modified = next((info[key] for key in ("LastModified", "updated", "mtime", "last_modified") if key in info), None)
    if not isinstance(modified, datetime):
        raise StoreUnavailable(f"{info['name']}: the store doesn't tell when it was written")
    return Entry(name, False, int(info["size"]), modified.timestamp())


def _code(error: OSError) -> str:
    """S3's own name of an error, where it has one."""
    response: Mapping[str, Any] = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _failures() -> tuple[type[Exception], ...]:
    """OSError, and what clients raise beside: credentials that are missing, endpoints that don't answer, connections
    that are cut in the middle of a file."""
    found: list[type[Exception]] = [OSError, HTTPException]
    with suppress(ImportError):
        from aiohttp import ClientError

        found.append(ClientError)
    with suppress(ImportError):
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

        found.append(BotoCoreError)
    return tuple(found)
