"""Digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def file_digest(*files: Path) -> str:
    """Hex SHA-256 over the files' contents, in the order given."""
    hashed = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                hashed.update(chunk)
    return hashed.hexdigest()


def weights_files(folder: Path) -> list[Path]:
    """A model's or adapter's weights, in the order in which engines and manifests take their digest."""
    return sorted(folder.glob("*.safetensors"))
