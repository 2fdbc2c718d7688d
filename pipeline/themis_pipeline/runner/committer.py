"""Writes outputs and offsets as one, by one short transaction after another; the order of its calls was paid for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from themis_pipeline.kafka.seam import (
    CommitRefused,
    Output,
    Producer,
    Record,
    RecordTooLarge,
    Transport,
    TransportError,
)
from themis_pipeline.runner.assignment import Assignment, Batch
from themis_pipeline.runner.failpoints import Failpoints, NoFailpoints, Step
from themis_pipeline.runner.metrics import RunnerMetrics
from themis_pipeline.runner.watchdog import Watchdog
from themis_pipeline.runner.window import Prefix


class Outcome(Enum):
    NOTHING = "nothing"
    COMMITTED = "committed"
    KEPT = "kept"


class CommitsFail(RuntimeError):
    """So many transactions in a row failed that the process had better start anew."""


class _Unfit(Exception):
    """A record one of whose outputs its topic doesn't take."""

    def __init__(self, prefix: Prefix, record: Record, output: Output) -> None:
        super().__init__(f"too large for {output.topic}")
        self.prefix = prefix
        self.record = record
        self.output = output


class _Sending:
    """Of one output, from the record that it came of. Raises _Unfit where the client itself finds it too large."""

    def __init__(self, producer: Producer, prefix: Prefix, record: Record, output: Output) -> None:
        self._of = prefix, record, output
        try:
            self._sent = producer.send(output)
        except RecordTooLarge as error:
            raise _Unfit(*self._of) from error

    def failure(self, until_s: float) -> _Unfit | TransportError | None:
        """None: it is written."""
        try:
            self._sent.wait(max(0.0, until_s - time.monotonic()))
        except RecordTooLarge:
            return _Unfit(*self._of)
        except TransportError as error:
            return error
        return None


@dataclass(frozen=True, slots=True)
class CommitLimits:
    max_records: int = 2_000
    """Records in one transaction."""
    max_bytes: int = 8 * 1024**2
    """Outputs of one transaction, which are also all that waits in the producer."""
    step_s: float = 12.0
    """For the outputs of one transaction to be written; within the transaction's own time-out."""
    attempt_s: float = 60.0
    """For a whole attempt, a new producer included; beyond it the process is ended."""
    max_failures: int = 5
    """Failures in a row, refusals aside, after which the process is ended..."""
    failing_s: float = 30.0
    """...if they have gone on for so long: a broker that starts again refuses quickly and often."""
    pause_s: float = 0.5
    """Between a failure and the next attempt, and after a refusal."""


@dataclass(slots=True)
class Committer:
    """For one thread. The first call makes the producer. `instead`: what is to be written of a record one of whose
    outputs the broker found too large, whatever its topic is said to take."""

    transport: Transport
    group: str
    transactional_id: str
    assignment: Assignment
    instead: Callable[[Record, Output], Output]
    watchdog: Watchdog
    metrics: RunnerMetrics
    limits: CommitLimits = field(default_factory=CommitLimits)
    failpoints: Failpoints = field(default_factory=NoFailpoints)
    _producer: Producer | None = None
    _unsure: Batch | None = None
    _failures: int = 0
    _failing_s: float = 0.0

    def commit(self) -> Outcome:
        """One transaction with what is finished. What was not written is kept in hand. Raises CommitsFail."""
        with self.watchdog.guard("a transaction", self.limits.attempt_s):
            try:
                return self._attempt()
            except CommitRefused:
                # With the same producer the next transaction would hold this one's offsets as well, and the broker
                # take them, in the name of the new generation, for partitions that are another's (3.0.12).
                self._discard()
                self.metrics.transaction("refused")
            except _Unfit as unfit:
                self._replace(unfit)
            except TransportError as error:
                self._failed(error)
            return Outcome.KEPT

    def ready(self) -> None:
        """Makes the producer, which ends what a dead process with this id left open. Raises CommitsFail."""
        with self.watchdog.guard("the start of the producer", self.limits.attempt_s):
            while not self._tried():
                time.sleep(self.limits.pause_s)

    def _tried(self) -> bool:
        try:
            self._opened()
        except TransportError as error:
            self._failed(error)
            return False
        return True

    def close(self) -> None:
        self._discard()

    def _attempt(self) -> Outcome:
        producer = self._opened()
        # After a failure one record's outputs go alone: where one is too large for its topic and was sent in a batch
        # with others, the client library (3.0.12) never says what became of any of them.
        records = 1 if self._failures else self.limits.max_records
        batch = self.assignment.batch(max_records=records, max_bytes=self.limits.max_bytes)
        if batch is None:
            return Outcome.NOTHING
        started_s = time.monotonic()
        self._write(producer, batch)
        self.failpoints.reach(Step.COMMITTED)
        self._unsure = None
        self._failures = 0
        self.metrics.transaction("committed", time.monotonic() - started_s)
        self.metrics.committed(self.assignment.committed(batch))
        return Outcome.COMMITTED

    def _write(self, producer: Producer, batch: Batch) -> None:
        until_s = time.monotonic() + self.limits.step_s
        self.failpoints.reach(Step.BEGIN)
        producer.begin()
        self._send(producer, batch, until_s)
        self.failpoints.reach(Step.OFFSETS)
        producer.send_offsets(batch.places, batch.membership)
        self.failpoints.reach(Step.COMMIT)
        self._unsure = batch
        producer.commit()

    def _send(self, producer: Producer, batch: Batch, until_s: float) -> None:
        """Nothing is sent after the flush, and every record's own answer is waited for: a process that is frozen past
        the transaction's time-out otherwise commits nothing, is told it did, and later moves the offsets past it."""
        self.failpoints.reach(Step.SEND)
        sent = [
            _Sending(producer, prefix, record, output)
            for prefix in batch.prefixes
            for record, outputs in prefix.done
            for output in outputs
        ]
        self.failpoints.reach(Step.FLUSH)
        producer.flush(max(0.0, until_s - time.monotonic()))
        self.failpoints.reach(Step.ACKNOWLEDGED)
        failures = [failure for one in sent if (failure := one.failure(until_s)) is not None]
        # Where a record is too large, others with it fail for that.
        for failure in sorted(failures, key=lambda one: not isinstance(one, _Unfit)):
            raise failure

    def _replace(self, unfit: _Unfit) -> None:
        self._discard()
        if not self.assignment.replace(unfit.prefix, unfit.record, [self.instead(unfit.record, unfit.output)]):
            self._failed(TransportError(str(unfit)))

    def _opened(self) -> Producer:
        """A new producer of the same id ends what the old one left open; only then does the group's own account say
        whether a commit whose answer was lost took place."""
        if self._producer is None:
            self._producer = self.transport.producer(self.transactional_id)
        if self._unsure is not None:
            places = self._unsure.places
            done = self.assignment.committed(self._unsure, self.transport.committed(self.group, places))
            self._unsure = None
            self.metrics.committed(done)
        return self._producer

    def _failed(self, error: TransportError) -> None:
        self.metrics.transaction("failed")
        self._discard()
        now_s = time.monotonic()
        self._failing_s = self._failing_s if self._failures else now_s
        self._failures += 1
        if self._failures >= self.limits.max_failures and now_s - self._failing_s >= self.limits.failing_s:
            raise CommitsFail(f"{self._failures} transactions in a row failed, the last with {error}") from error

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.discard()
