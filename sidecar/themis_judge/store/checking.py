"""Whether a version's files on this machine are the ones that were published."""

from __future__ import annotations

import os
from pathlib import Path

from themis_judge.digests import file_digest
from themis_judge.store.errors import CorruptVersion, StoreUnavailable
from themis_judge.store.local import ASIDE
from themis_judge.store.types import FileEntry, Manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Every file is there and as published, and nothing else is: an engine loads whatever lies in a folder. Raises
    CorruptVersion, naming the first file that is wrong."""
    for entry in manifest.files:
        check_file(folder / entry.path, entry, manifest.id)
    wanted = {entry.path for entry in manifest.files}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name).relative_to(folder).as_posix()
            if path not in wanted and not name.startswith(ASIDE):
                raise CorruptVersion(f"{manifest.id}: {path} is not in its manifest")


def check_file(file: Path, entry: FileEntry, version: str) -> None:
    where = f"{version}: {entry.path}"
    try:
        if file.is_symlink() or not file.is_file():
            raise CorruptVersion(f"{where} is missing")
        size = file.stat().st_size
        if size != entry.bytes:
            raise CorruptVersion(f"{where} has {size} bytes, its manifest says {entry.bytes}")
        if file_digest(file) != entry.sha256:
            raise CorruptVersion(f"{where} has other contents than its manifest says")
    except OSError as error:
        raise StoreUnavailable(f"{where}: {error.strerror or error}") from error
