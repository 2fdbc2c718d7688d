"""The blocking part of archiving, for threads of its own: dead letters first, then the manifest that passes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from themis_judge.store.files import Files
from themis_pipeline.archive.holding import Lot
from themis_pipeline.archive.sorting import Sorting
from themis_pipeline.archive.source import Letters, Source
from themis_pipeline.archive.writer import PartitionWriter
from themis_pipeline.kafka.seam import Output, Partition, TransportError
from themis_pipeline.runner.watchdog import Watchdog


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a lot."""

    rows: int
    letters: int


class Storing:
    """letter_s: for the dead letters of one lot to be acknowledged; work_s: for one call here, beyond which the process
    is ended. Safe to use from several threads."""

    def __init__(
        self, files: Files, sorting: Sorting, source: Source, watchdog: Watchdog, letter_s: float, work_s: float
    ) -> None:
        self._files = files
        self._sorting = sorting
        self._source = source
        self._watchdog = watchdog
        self._letter_s = letter_s
        self._work_s = work_s
        self._lock = threading.Lock()
        self._letters: Letters | None = None

    def open(self, partition: Partition, writer: PartitionWriter | None) -> PartitionWriter:
        """A writer at the archive's end. Raises StoreError, CorruptArchive."""
        with self._watchdog.guard(f"opening {_name(partition)} in the archive", self._work_s):
            if writer is None:
                return PartitionWriter(self._files, partition.topic, partition.number)
            writer.reopen()
            return writer

    def store(self, partition: Partition, writer: PartitionWriter, lot: Lot) -> Stored:
        """A process that dies between the two buries the same letters again: under the same ids, by which they are one.
        Raises StoreError, Overtaken, TransportError."""
        with self._watchdog.guard(f"archiving {_name(partition)}", self._work_s):
            found = self._sorting(lot.records)
            self._bury(found.letters)
            writer.write(found.rows, lot.end)
            return Stored(len(found.rows), len(found.letters))

    def close(self) -> None:
        with self._lock:
            letters, self._letters = self._letters, None
        if letters is not None:
            letters.discard()

    def _bury(self, outputs: Sequence[Output]) -> None:
        if not outputs:
            return
        until_s = time.monotonic() + self._letter_s
        try:
            letters = self._opened()
            sent = [letters.send(output) for output in outputs]
            for one in sent:
                one.wait(max(0.0, until_s - time.monotonic()))
        except TransportError:
            self.close()  # one that has failed once may refuse for ever what comes after
            raise

    def _opened(self) -> Letters:
        with self._lock:
            if self._letters is None:
                self._letters = self._source.letters()
            return self._letters


def _name(partition: Partition) -> str:
    return f"{partition.topic}/{partition.number}"
