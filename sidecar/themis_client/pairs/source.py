"""The input, read row by row as often as it's needed: JSON lines, or Parquet."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from themis_client.cli_input import Line, each_line
from themis_client.errors import BadRequest, InvalidItem
from themis_client.failure import Failure, Status
from themis_client.pairs.prompt import FIELDS, Prompt

Row: TypeAlias = Line[Prompt]

PARQUET = ".parquet"
READ_ROWS = 64
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of an input before anything of it is judged. digest: blake2b, of the whole file."""

    digest: str
    rows: int


class Source:
    """A file. Raises OSError, and BadRequest where it is no Parquet or has other columns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parquet = path.suffix == PARQUET

    def survey(self) -> Survey:
        digest, rows = hashlib.blake2b(digest_size=32), 0
        with self._path.open("rb") as file:
            if not self._parquet:
                for line in file:
                    digest.update(line)
                    rows += bool(line.strip())
                return Survey(digest.hexdigest(), rows)
            while part := file.read(READ_BYTES):
                digest.update(part)
        with self._open_parquet() as parquet:
            return Survey(digest.hexdigest(), parquet.metadata.num_rows)

    def chat(self) -> bool | None:
        """Whether its prompts are messages; None if no row can be read."""
        return next((row.item.chat for row in self.rows() if isinstance(row.item, Prompt)), None)

    def rows(self) -> Iterator[Row]:
        """All rows that are not empty, by their numbers from 1. What can't be read is a Failure. The first prompt
        that can decides whether the file holds texts or messages: a column has one type."""
        chat: bool | None = None
        for row in self._parquet_rows() if self._parquet else each_line(str(self._path), Prompt.from_dict):
            if isinstance(row.item, Failure):
                yield row
                continue
            if chat is None:
                chat = row.item.chat
            yield row if row.item.chat is chat else Line(row.number, self._other_form(row.number, chat))

    def _parquet_rows(self) -> Iterator[Row]:
        number = 0
        try:
            with self._open_parquet() as file:
                for batch in file.iter_batches(READ_ROWS):
                    for value in batch.to_pylist():
                        number += 1
                        yield Line(number, self._parsed(value, number))
        except _arrow().ArrowException as error:
            raise BadRequest(f"{self._path}: after row {number}: {error}") from error

    def _parsed(self, value: Mapping[str, Any], number: int) -> Prompt | Failure:
        try:
            return Prompt.from_dict(value)
        except InvalidItem as error:
            return Failure(Status.INVALID, f"{self._where(number)}: {error}", error.field)

    def _open_parquet(self) -> Any:
        try:
            file = importlib.import_module("pyarrow.parquet").ParquetFile(self._path)
        except _arrow().ArrowException as error:
            raise BadRequest(f"{self._path}: {error}") from error
        unknown = [name for name in file.schema_arrow.names if name not in FIELDS]
        if unknown:
            raise BadRequest(f"{self._path}: unknown column {unknown[0]!r}; there are {', '.join(FIELDS)}")
        return file

    def _other_form(self, number: int, chat: bool) -> Failure:
        first, this = ("messages", "a text") if chat else ("a text", "messages")
        told = f"{self._where(number)}: prompt: it is {this}, and the file's first one is {first}: they share a column"
        return Failure(Status.INVALID, told, "prompt")

    def _where(self, number: int) -> str:
        return f"row {number}" if self._parquet else f"line {number}"


def _arrow() -> Any:
    return importlib.import_module("pyarrow")
