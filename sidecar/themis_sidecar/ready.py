"""A file that says where the server serves, for as long as it does."""

from __future__ import annotations

import os
from pathlib import Path


class ReadyFile:
    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, address: str) -> None:
        """Appears with its whole content at once."""
        if self._path is None:
            return
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        aside.write_text(address + "\n", encoding="utf-8")
        aside.replace(self._path)

    def remove(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
