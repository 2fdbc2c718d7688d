"""Tasks and labels for the stage `annotate`: as far as their topics were read, which is gone on with whenever a label
comes that lies beyond.

Labels are read first and tasks after them, so that for every label that was seen its task was seen as well, if there
is one: people label what they were given. What is held here is no state of the stage's: whoever begins anew reads the
same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Protocol, TypeVar

from themis_pipeline.annotation.reading import Labels, Topics, task_in
from themis_pipeline.events.errors import Malformed
from themis_pipeline.kafka.errors import BrokerError
from themis_pipeline.kafka.seam import Partition, Record
from themis_pipeline.runner.stage import Retry
from themis_pipeline.stages.seam import Context
from themis_proto.v1 import events_pb2 as ev

RETRY_AFTER_S = 15.0
KEPT_BYTES = 64 * 1024 * 1024
"""Of tasks, the last ones that were given out; others are read again one by one."""

_T = TypeVar("_T")


class Reader(Protocol):
    """Raises BrokerError."""

    def scan(self, topic: str, starts: Mapping[int, int] | None = None) -> Iterator[Record]: ...

    def pick(self, places: Collection[tuple[Partition, int]]) -> Iterator[Record]: ...


class TopicShelf:
    """Implements `Shelf`. open_reader: a connection for each time that something is read."""

    def __init__(
        self,
        open_reader: Callable[[], AbstractContextManager[Reader]],
        topics: Topics,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._open = open_reader
        self._topics = topics
        self._labels = Labels(topics.labels)
        self._tasks = _Tasks(kept_bytes)
        self._reached: Mapping[int, int] = {}  # by partition of the labels: up to where their tasks were read too
        # One thread of its own: reads whose handlers are cancelled go on to their end, one after another, and keep
        # nobody else waiting for a thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="themis-shelf")

    async def task(self, id: str) -> ev.AnnotationTask | None:
        """Of a task whose labels `before` was asked for."""
        return await self._in_thread(lambda: self._task(id))

    async def before(self, task: str, context: Context) -> Sequence[ev.AnnotationLabel]:
        """Raises TooManyLabels."""
        return await self._in_thread(lambda: self._before(task, context))

    async def _in_thread(self, read: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, read)
        except BrokerError as error:
            raise Retry(RETRY_AFTER_S, type(error).__name__) from error

    def _before(self, task: str, context: Context) -> Sequence[ev.AnnotationLabel]:
        if not self._seen(context):
            self._read_on()
        if not self._seen(context):
            raise Retry(RETRY_AFTER_S, "labels_not_read")  # a broker that doesn't know yet what another gave us
        return [
            one.label
            for one in self._labels.by_task.get(task, ())
            if one.partition == context.partition and one.offset < context.offset
        ]

    def _seen(self, context: Context) -> bool:
        return self._reached.get(context.partition, 0) > context.offset

    def _read_on(self) -> None:
        with self._open() as reader:
            labels, tasks = self._topics.labels, self._topics.tasks
            self._labels.read(reader.scan(labels.name, self._labels.ends))
            for record in reader.scan(tasks.name, self._tasks.ends):
                with suppress(Malformed):  # labels of such a task are rejected, and no others
                    self._tasks.take(record, task_in(record, tasks).id)
                self._tasks.ends[record.partition.number] = record.offset + 1
            self._reached = dict(self._labels.ends)

    def _task(self, id: str) -> ev.AnnotationTask | None:
        record, place = self._tasks.kept.get(id), self._tasks.places.get(id)
        if record is None and place is not None:
            with self._open() as reader:
                [record] = reader.pick([place])
        return None if record is None else task_in(record, self._topics.tasks)


class _Tasks:
    """Where each task stands, and the last ones themselves."""

    def __init__(self, kept_bytes: int) -> None:
        self.places: dict[str, tuple[Partition, int]] = {}
        self.kept: dict[str, Record] = {}
        self.ends: dict[int, int] = {}
        self._left_bytes = kept_bytes

    def take(self, record: Record, id: str) -> None:
        """A task that stands there again, since its set was handled again, changes nothing."""
        if id not in self.places:
            self.places[id] = (record.partition, record.offset)
            self.kept[id] = record
            self._left_bytes -= record.size_bytes
            while self._left_bytes < 0:
                self._left_bytes += self.kept.pop(next(iter(self.kept))).size_bytes
