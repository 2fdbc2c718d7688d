"""What becomes of a record that failed: the stage's own retry topic, or a dead letter. Both are written in the same
transaction as everything else, so that a poison record neither stalls what is behind it nor gets lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from themis_pipeline.kafka.seam import Header, Output, Partition, Record
from themis_pipeline.runner.stage import (
    Bury,
    DeadRecord,
    Delivery,
    Malformed,
    Origin,
    Oversize,
    Reason,
    Reject,
    Retry,
)

FAILURES, POSTPONED, NOT_BEFORE, ORIGIN, WRITTEN, NULLS = (
    "themis-failures",
    "themis-postponed",
    "themis-not-before-ms",
    "themis-origin",
    "themis-written-ms",
    "themis-null-headers",
)
OURS = (FAILURES, POSTPONED, NOT_BEFORE, ORIGIN, WRITTEN, NULLS)
"""In this order, behind all others: by their place they are told from a producer's own of the same names."""
MAX_COUNT, MAX_OFFSET, MAX_NAME_CHARS = 2**31 - 1, 2**63 - 1, 249
MAX_TOLD = 500
"""Characters of an error's code or detail."""


class OutputTooLarge(Reject):
    """What the stage made of the record is larger than its topic takes: sending it would fail the transaction of all
    that is in it, for ever."""


class ForeignRetry(Malformed):
    """A record of a retry topic whose headers the runner can't have written."""


_REASONS = (
    (Malformed, Reason.MALFORMED),
    (Oversize, Reason.OVERSIZE),
    (OutputTooLarge, Reason.OUTPUT_TOO_LARGE),
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    max_attempts: int = 5
    """How often a record may be tried before it is given up."""
    first_delay_s: float = 2.0
    factor: float = 4.0
    max_delay_s: float = 600.0
    max_postponed: int = 100
    """How often a stage may put a record off."""

    def delay_s(self, failures: int) -> float:
        """After so many failures, at least one."""
        return min(self.max_delay_s, self.first_delay_s * self.factor ** (failures - 1))


@dataclass(frozen=True, slots=True)
class Retries:
    """`stage` is what dead letters name: the stage's name in the table of topics, which is not its group's where the
    pipeline's topics have a prefix. `limits_bytes` says what each topic takes by its name on the cluster, the retry
    topic included: `max_message_bytes` of the topics as they are placed. What isn't named takes Kafka's own default."""

    stage: str
    topic: str
    bury: Bury
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    limits_bytes: Mapping[str, int] = field(default_factory=dict)
    default_limit_bytes: int = 1_000_000

    def delivery(self, record: Record) -> Delivery:
        """Raises ForeignRetry."""
        origin = Origin(record.partition, record.offset, record.written_at_ms)
        if record.partition.topic != self.topic:
            return Delivery(record, origin)
        return _from_retry(record)

    def check(self, outputs: Sequence[Output]) -> None:
        """Raises OutputTooLarge."""
        for output in outputs:
            if output.size_bytes > self._limit(output.topic):
                raise OutputTooLarge("OutputTooLarge", _too_large(output))

    def after(self, error: Exception, delivery: Delivery, now_ms: int) -> Output:
        """Where the record goes after this error."""
        if isinstance(error, Reject):
            return self._dead(delivery, _reason(error), error.code, error.detail)
        if isinstance(error, Retry):
            again = Delivery(delivery.record, delivery.origin, delivery.failures, delivery.postponed + 1)
            given_up, delay_s, kind = again.postponed > self.policy.max_postponed, error.after_s, error.code
        else:
            again = Delivery(delivery.record, delivery.origin, delivery.failures + 1, delivery.postponed)
            given_up, kind = again.failures >= self.policy.max_attempts, type(error).__name__
            delay_s = self.policy.delay_s(again.failures)
        if given_up:
            return self._dead(delivery, Reason.EXHAUSTED, kind, "")
        output = for_retry(self.topic, again, now_ms + round(delay_s * 1000))
        if output.size_bytes > self._limit(self.topic):
            return self._dead(delivery, Reason.OVERSIZE, kind, f"{output.size_bytes} bytes for {self.topic}")
        return output

    def instead(self, record: Record, output: Output) -> Output:
        """The dead letter of a record one of whose outputs the broker found too large. It tells how large."""
        try:
            delivery = self.delivery(record)
        except ForeignRetry:
            delivery = Delivery(record, Origin(record.partition, record.offset, record.written_at_ms))
        return self._dead(delivery, Reason.OUTPUT_TOO_LARGE, "OutputTooLarge", _too_large(output))

    def _dead(self, delivery: Delivery, reason: Reason, error: str, detail: str) -> Output:
        attempts = delivery.failures + delivery.postponed + 1
        return self.bury(DeadRecord(self.stage, reason, _told(error), _told(detail), attempts, delivery))

    def _limit(self, topic: str) -> int:
        return self.limits_bytes.get(topic, self.default_limit_bytes)


def _too_large(output: Output) -> str:
    return f"{output.size_bytes} bytes for {output.topic}"


def _told(text: str) -> str:
    """A text of a stage's own that any dead letter can hold."""
    return text[:MAX_TOLD].encode(errors="replace").decode()


def _reason(error: Reject) -> Reason:
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return Reason.REJECTED


def for_retry(topic: str, delivery: Delivery, not_before_ms: int) -> Output:
    """The record as a stage's retry topic takes it, with its history in headers of the runner's own. A dead letter is
    replayed by the same with no failures and no time."""
    record, origin = delivery.record, delivery.origin
    if record.value is None:
        raise Malformed("NullValue")
    theirs = record.headers
    own = {
        FAILURES: str(delivery.failures),
        POSTPONED: str(delivery.postponed),
        NOT_BEFORE: str(not_before_ms),
        ORIGIN: f"{origin.partition.topic}/{origin.partition.number}/{origin.offset}",
        WRITTEN: str(origin.written_at_ms),
        # The client library writes no null headers.
        NULLS: ",".join(str(index) for index, (_, content) in enumerate(theirs) if content is None),
    }
    headers = tuple((name, content or b"") for name, content in theirs)
    return Output(topic, record.key, record.value, headers + tuple((name, text.encode()) for name, text in own.items()))


def _from_retry(record: Record) -> Delivery:
    theirs, own = record.headers[: -len(OURS)], record.headers[-len(OURS) :]
    if tuple(name for name, _ in own) != OURS:
        raise ForeignRetry("ForeignRetry", "its headers are not the runner's")
    told = {name: (content or b"").decode("ascii", "replace") for name, content in own}
    try:
        topic, number, offset = told[ORIGIN].rsplit("/", 2)
        if len(topic) > MAX_NAME_CHARS:
            raise ValueError("no topic's name")
        nulls = {int(index) for index in told[NULLS].split(",") if index}
        place = Partition(topic, _number(number, MAX_COUNT))
        origin = Origin(place, _number(offset, MAX_OFFSET), _number(told[WRITTEN], MAX_OFFSET, lowest=-1))
        counts = _number(told[FAILURES], MAX_COUNT), _number(told[POSTPONED], MAX_COUNT)
        not_before_ms = _number(told[NOT_BEFORE], MAX_OFFSET)
    except ValueError as error:
        raise ForeignRetry("ForeignRetry", "its headers say what the runner doesn't") from error
    headers: tuple[Header, ...] = tuple(
        (name, None if index in nulls else content) for index, (name, content) in enumerate(theirs)
    )
    first = Record(
        record.partition, record.offset, record.key, record.value, headers, record.leader_epoch, record.written_at_ms
    )
    return Delivery(first, origin, *counts, not_before_ms)


def _number(text: str, highest: int, lowest: int = 0) -> int:
    """Raises ValueError for what a broker or a runner can't have meant: it would be carried into a dead letter."""
    number = int(text)
    if not lowest <= number <= highest:
        raise ValueError("out of range")
    return number
