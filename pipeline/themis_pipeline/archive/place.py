"""Where an archive lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from themis_judge.store.files import Files
from themis_judge.store.local import LocalFiles
from themis_judge.store.remote import RemoteFiles


def open_files(url: str, options: Mapping[str, Any] | None = None, timeout_s: float = 60.0) -> Files:
    """url: a directory, or what fsspec takes ("s3://bucket/path") of a store that creates files exclusively; options:
    handed to fsspec; timeout_s: the longest a remote call may take, beside the bytes it moves. Raises StoreError."""
    if "://" in url and not url.startswith("file://"):
        return RemoteFiles(url, options or {}, timeout_s)
    return LocalFiles(Path(url.removeprefix("file://")).expanduser().absolute())
