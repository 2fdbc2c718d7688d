"""Files that are there whole or not at all: written beside their place, and moved there at the end."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from themis_client.pairs import columns
from themis_client.pairs.source import PARQUET

WRITE_ROWS = 1000
"""Of Parquet, at a time: what a file consists of must not depend on how its run went."""


class Writer(Protocol):
    def write(self, row: Mapping[str, Any]) -> None: ...


class Lines:
    """JSON lines."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, row: Mapping[str, Any]) -> None:
        self._file.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())


class Parquet:
    """Holds WRITE_ROWS rows at most."""

    def __init__(self, file: BinaryIO, chat: bool) -> None:
        self._arrow: Any = importlib.import_module("pyarrow")
        self._schema = columns.schema(self._arrow, chat)
        self._writer: Any = importlib.import_module("pyarrow.parquet").ParquetWriter(file, self._schema)
        self._rows: list[Mapping[str, Any]] = []

    def write(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == WRITE_ROWS:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


@contextmanager
def pairs_at(path: Path, chat: bool) -> Iterator[Writer]:
    """In the form that the name's ending says."""
    with _moved(path) as file:
        if path.suffix != PARQUET:
            yield Lines(file)
            return
        parquet = Parquet(file, chat)
        yield parquet
        parquet.close()


@contextmanager
def failures_at(path: Path) -> Iterator[Writer]:
    """A file without a line is not made, and one of an earlier run is removed then."""
    with _moved(path) as file:
        yield Lines(file)
    if not path.stat().st_size:
        path.unlink()


@contextmanager
def _moved(path: Path) -> Iterator[BinaryIO]:
    beside = path.with_name(f"{path.name}.part")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
