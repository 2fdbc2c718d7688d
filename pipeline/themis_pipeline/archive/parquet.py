"""Records to the bytes of a Parquet file and back."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from themis_pipeline.archive.errors import CorruptArchive
from themis_pipeline.archive.record import Point, Record, Turn
from themis_pipeline.archive.schema import arrow_schema, conform

_LISTS = (
    "candidates", "responses", "response_generators", "response_lineages", "response_methods", "response_made_from",
    "response_length_changes",
)  # fmt: skip


def to_parquet(records: Sequence[Record]) -> bytes:
    table = pa.Table.from_pylist([asdict(record) for record in records], schema=arrow_schema())
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def from_parquet(data: bytes, where: str) -> Iterator[Record]:
    """`where` is for errors. Raises CorruptArchive."""
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise CorruptArchive(f"{where}: not readable as Parquet: {type(error).__name__}") from error
    for batch in conform(table, where).to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            yield _record(row)


def _record(row: Mapping[str, Any]) -> Record:
    lists = {name: tuple(row[name]) for name in _LISTS}
    turns = tuple(Turn(**turn) for turn in row["messages"])
    points = tuple(Point(**point) for point in row["points"])
    return Record(**{**row, **lists, "messages": turns, "points": points})
