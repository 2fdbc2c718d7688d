"""Records whose headers have names in no UTF-8: the brokers take them, and other clients can write them.

kafka-python 3.0.12 calls such a record corrupt, and its next poll never returns: a single one would stop a stage for
ever. Can go when the library reads them.
"""

from __future__ import annotations

from typing import Any

from kafka.record import memory_records  # type: ignore[import-untyped]
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch  # type: ignore[import-untyped]
from kafka.record.util import decode_varint  # type: ignore[import-untyped]


def read_any_names() -> None:
    """From here on, for all consumers of the process: odd bytes in a name are given escaped, as in "\\\\xff"."""
    memory_records.DefaultRecordBatch = AnyNames


class AnyNames(DefaultRecordBatch):  # type: ignore[misc]
    _pos: int

    def _read_msg(self) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            return self._read_with_odd_names()

    def _read_with_odd_names(self) -> Any:
        """The record at the place where reading failed, which hasn't moved."""
        length, start = decode_varint(self._buffer, self._pos)
        _, position = decode_varint(self._buffer, start)
        since_ms, position = decode_varint(self._buffer, position)
        since_offset, position = decode_varint(self._buffer, position)
        key, position = self._bytes(position)
        value, position = self._bytes(position)
        count, position = decode_varint(self._buffer, position)
        headers = []
        for _ in range(count):
            name, position = self._bytes(position)
            content, position = self._bytes(position)
            headers.append(((name or b"").decode("utf-8", "backslashreplace"), content))
        if position - start != length:
            raise ValueError("a record of another length than it says")
        self._pos = position
        first_ms = self.first_timestamp + since_ms
        written_ms = self.max_timestamp if self.timestamp_type == self.LOG_APPEND_TIME else first_ms
        offset = self.base_offset + since_offset
        return DefaultRecord(length, offset, written_ms, self.timestamp_type, key, value, headers)

    def _bytes(self, position: int) -> tuple[bytes | None, int]:
        length, position = decode_varint(self._buffer, position)
        if length < 0:
            return None, position
        return bytes(self._buffer[position : position + length]), position + length
