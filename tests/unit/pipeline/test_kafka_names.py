"""Batches of records as brokers give them, with names in headers that kafka-python itself can't read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder  # type: ignore[import-untyped]

from themis_pipeline.kafka.names import AnyNames


class Name(str):
    """Written as the bytes that it is made of."""

    def __new__(cls, data: bytes) -> Name:
        made = super().__new__(cls, data.decode("latin-1"))
        made.data = data
        return made

    data: bytes

    def encode(self, *_: object) -> bytes:
        return self.data


maybe = st.none() | st.binary(max_size=8)
names = (st.binary(max_size=5) | st.just(b"themis-message")).map(Name)
headers = st.lists(st.tuples(names, maybe.filter(lambda data: data is not None)), max_size=3)
records = st.lists(st.tuples(st.integers(0, 2**40), maybe, maybe, headers), min_size=1, max_size=4)


def batch(told: list[tuple[int, bytes | None, bytes | None, list[tuple[Name, bytes]]]], compression: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, compression, False, -1, -1, -1, 1_000_000)
    for offset, one in enumerate(told):
        assert builder.append(offset, *one) is not None
    return bytes(builder.build())


@given(records, st.sampled_from([0, 1]))
@settings(deadline=None)
def test_every_record_is_read(told: list[tuple[int, bytes | None, bytes | None, Any]], compression: int) -> None:
    read = AnyNames(memoryview(batch(told, compression)))
    assert read.validate_crc()
    assert [(one.offset, one.timestamp, one.key, one.value, one.headers) for one in read] == [
        (offset, at, key, value, [(name.data.decode("utf-8", "backslashreplace"), content) for name, content in theirs])
        for offset, (at, key, value, theirs) in enumerate(told)
    ]


def test_the_library_still_needs_it() -> None:
    """Fails when it no longer does: then the file can go."""
    data = batch([(0, b"k", b"v", [(Name(b"\xff"), b"")])], 0)
    with pytest.raises(Exception, match="UnicodeDecodeError"):
        list(DefaultRecordBatch(memoryview(data)))
