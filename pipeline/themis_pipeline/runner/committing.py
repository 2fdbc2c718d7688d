"""The thread that commits, what partitions that go have finished included: before they are another's."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from themis_pipeline.kafka.seam import Partition, TransportError
from themis_pipeline.runner.assignment import Assignment
from themis_pipeline.runner.committer import Committer, Outcome
from themis_pipeline.runner.failpoints import Failpoints, Step


@dataclass(frozen=True, slots=True)
class CommittingLimits:
    interval_s: float = 0.2
    """The longest that something finished waits for its transaction, while transactions succeed."""
    records: int = 1_000
    """So many finished records are committed at once."""
    revocation_s: float = 10.0
    """How long finished records of partitions that go are still being committed; a transaction that has begun is
    ended in any case."""


class Committing:
    """A listener of the consumer; `run` is for a thread of its own."""

    def __init__(
        self, committer: Committer, assignment: Assignment, limits: CommittingLimits, failpoints: Failpoints
    ) -> None:
        self._committer = committer
        self._assignment = assignment
        self._limits = limits
        self._failpoints = failpoints
        self._changed = threading.Condition()
        self._revocations: deque[Future[None]] = deque()
        self._stopping = False
        self._ended = False

    def assigned(self, partitions: Iterable[Partition]) -> None:
        self._assignment.came(partitions)

    def revoked(self, partitions: Collection[Partition]) -> Future[None]:
        """Done when what is finished is written. What is finished later is committed as well: until all members are
        there and the next generation begins the broker takes it, and who gets a partition reads where it stands then.
        """
        done: Future[None] = Future()
        with self._changed:
            if partitions and not self._ended:
                self._revocations.append(done)
                self._changed.notify()
                return done
        done.set_result(None)
        return done

    def lost(self, partitions: Iterable[Partition]) -> None:
        self._assignment.lost()

    def finished(self) -> None:
        """Something may be ready."""
        if self._due():
            with self._changed:
                self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        """Until `stop`, after which nothing is committed any more. Raises CommitsFail."""
        try:
            self._committer.ready()
            while not self._stopping:
                self._commit_all()
                self._wait(self._limits.interval_s)
                self._revoke_all()
        finally:
            with self._changed:
                self._ended = True
            for done in self._taken():
                done.set_result(None)
            self._committer.close()

    def _commit_all(self) -> None:
        while (outcome := self._committer.commit()) is Outcome.COMMITTED:
            if self._revocations or not self._due():
                return
        if outcome is Outcome.KEPT:
            with self._changed:
                self._changed.wait_for(lambda: self._revocations or self._stopping, self._committer.limits.pause_s)

    def _due(self) -> bool:
        return self._assignment.due(self._limits.records)

    def _wait(self, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._revocations or self._stopping or self._due(), timeout_s)

    def _taken(self) -> list[Future[None]]:
        with self._changed:
            asked = list(self._revocations)
            self._revocations.clear()
        return asked

    def _revoke_all(self) -> None:
        for done in self._taken():
            until_s = time.monotonic() + self._limits.revocation_s
            try:
                self._failpoints.reach(Step.REVOKE)
                while time.monotonic() < until_s and self._committer.commit() is Outcome.COMMITTED:
                    pass
            except TransportError:
                self._committer.close()
            finally:
                done.set_result(None)
