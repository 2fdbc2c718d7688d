"""Which partitions are here: the one thing that the consumer's own thread and the one that reads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import TypeAlias

from themis_judge.store.errors import StoreUnavailable
from themis_pipeline.archive.errors import Overtaken
from themis_pipeline.archive.holding import Holding
from themis_pipeline.archive.storing import Stored
from themis_pipeline.kafka.seam import Partition, TransportError
from themis_pipeline.runner.metrics import RunnerMetrics

Store: TypeAlias = Callable[[Holding], "Future[object]"]


class Holdings:
    """A listener of the consumer. `lock` is for whatever changes a holding: a change of the group that a poll leaves
    unfinished goes on beside the thread that reads. Nothing that asks the consumer may be done under it, since its own
    thread waits for it here."""

    def __init__(self, metrics: RunnerMetrics, revocation_s: float) -> None:
        self._metrics = metrics
        self._revocation_s = revocation_s
        self._store: Store | None = None
        self.lock = threading.RLock()
        self._held: dict[Partition, Holding] = {}
        self._leaving: dict[Partition, Future[object]] = {}
        self._progress_s: dict[Partition, float] = {}
        self._broken: BaseException | None = None

    def begin(self, store: Store) -> None:
        """What archives all that is pending of a partition, on a thread of its own."""
        self._store = store

    def assigned(self, partitions: Iterable[Partition]) -> None:
        came = list(partitions)
        with self.lock:
            # A group that fails in the midst of a change takes partitions away without a word.
            self._drop([one for one in self._held if one not in came], "lost")
            for one in came:
                self._let_go(one)
                self._held[one] = Holding(one, before=self._leaving.pop(one, None))
                self._progress_s[one] = time.time()
        self._metrics.moved("assigned", len(came))

    def revoked(self, partitions: Collection[Partition]) -> Future[None]:
        """When what is pending is archived, or some time has passed: were it dropped, a group that changes all the time
        would read the same again and again. What comes too late may be: the archive takes it or its next owner's."""
        with self.lock:
            going = [self._held[one] for one in partitions if one in self._held]
            writing = [task for one in going if (task := self._last(one)) is not None]
            self._drop(list(partitions), "revoked")
        return _done(writing, self._revocation_s)

    def _last(self, one: Holding) -> Future[object] | None:
        if one.task is None and one.records and self._store is not None:
            one.task = self._store(one)
        return one.task

    def raise_broken(self) -> None:
        """What ended work on a partition that was gone by then, and can't be mended by trying again."""
        if self._broken is not None:
            raise self._broken

    def count(self, result: object) -> None:
        """A lot that was archived."""
        if isinstance(result, Stored):
            self._metrics.transaction("committed")
            self._metrics.committed(result.rows + result.letters)
            for outcome, number in (("done", result.rows), ("dead", result.letters)):
                for _ in range(number):
                    self._metrics.outcome(outcome)

    def count_failed(self, error: BaseException) -> bool:
        """Whether trying again may mend it."""
        refused = isinstance(error, Overtaken)
        if refused or isinstance(error, StoreUnavailable | TransportError):
            self._metrics.transaction("refused" if refused else "failed")
            return True
        return False

    def lost(self, partitions: Iterable[Partition]) -> None:
        self._drop(list(partitions), "lost")

    def has(self, one: Holding) -> bool:
        """Whether it is still this assignment of the partition."""
        return self._held.get(one.partition) is one

    def all(self) -> list[Holding]:
        with self.lock:
            return list(self._held.values())

    def moved_on(self, one: Holding) -> None:
        """Something of it was archived."""
        with self.lock:
            if self.has(one):
                self._progress_s[one.partition] = time.time()

    def show(self, lag: Mapping[Partition, int], in_hand: Mapping[Partition, int]) -> None:
        """Of partitions that are still here: series of one that has gone would never go again."""
        with self.lock:
            here = self._held.keys()
            self._metrics.shown(
                {one: value for one, value in lag.items() if one in here},
                {one: value for one, value in in_hand.items() if one in here},
                self._progress_s,
            )

    def _drop(self, partitions: Sequence[Partition], how: str) -> None:
        with self.lock:
            for one in partitions:
                self._let_go(one)
                self._progress_s.pop(one, None)
                self._metrics.gone(one)
        self._metrics.moved(how, len(partitions))

    def _let_go(self, partition: Partition) -> None:
        held = self._held.pop(partition, None)
        if held is None:
            return
        if (running := held.running()) is not None:
            self._leaving[partition] = running
        if held.task is not None:
            held.task.add_done_callback(self._ended)

    def _ended(self, task: Future[object]) -> None:
        error = task.exception()
        if error is None:
            self.count(task.result())
        elif not self.count_failed(error):
            self._broken = error


def _done(tasks: Sequence[Future[object]], limit_s: float) -> Future[None]:
    done: Future[None] = Future()
    if not tasks:
        done.set_result(None)
        return done

    def watch() -> None:
        wait(tasks, limit_s)
        done.set_result(None)

    threading.Thread(target=watch, name="themis-archive-revoked", daemon=True).start()
    return done
