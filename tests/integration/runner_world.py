"""Topics of their own on a real broker, a stage that does what its records say, and an account of what came of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]
from kafka.errors import KafkaError, NoError, RetriableError  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from themis_pipeline.kafka.seam import Output
from themis_pipeline.kafka.transport import KafkaTransport, TransportLimits
from themis_pipeline.runner.committer import CommitLimits
from themis_pipeline.runner.committing import CommittingLimits
from themis_pipeline.runner.failpoints import Failpoints
from themis_pipeline.runner.metrics import RunnerFamilies, RunnerMetrics
from themis_pipeline.runner.polling import PollingLimits
from themis_pipeline.runner.retries import Retries, RetryPolicy
from themis_pipeline.runner.runner import Runner, RunnerLimits
from themis_pipeline.runner.stage import Bury, DeadRecord, Delivery, Oversize, Reject, Retry
from themis_pipeline.runner.watchdog import Watchdog

DEADLINE_S = 60.0
PARTITIONS = 4
LIMITS = RunnerLimits(
    window_records=16,
    drain_s=20.0,
    polling=PollingLimits(poll_s=0.05, outage_s=60.0),
    committing=CommittingLimits(interval_s=0.05, records=20),
    transactions=CommitLimits(max_records=25, failing_s=1.0, pause_s=0.05),
)
QUICK_END = replace(LIMITS, transactions=replace(LIMITS.transactions, step_s=3.0, attempt_s=8.0, max_failures=3))
"""Transactions that hang or fail end their process sooner."""
QUICK = TransportLimits(
    session_timeout_s=6.0, transaction_timeout_s=10.0, delivery_timeout_s=9.0, request_timeout_s=8.0
)
SHORT = TransportLimits(
    session_timeout_s=1.5,
    transaction_timeout_s=3.0,
    delivery_timeout_s=2.5,
    request_timeout_s=2.0,
    connect_timeout_s=3.0,
)
"""For members that die or freeze. On a busy machine a healthy one may be thrown out as well: no handler's calls are
counted with it."""
POLICY = RetryPolicy(max_attempts=3, first_delay_s=0.05, factor=1.0)


@dataclass(frozen=True, slots=True)
class Read:
    topic: str
    key: bytes
    value: bytes
    headers: dict[str, bytes]


def _patiently(call: Callable[[], dict[TopicPartition, type[KafkaError]]]) -> None:
    """A broker that has just started makes its own topics first, and says so by error or partition by partition."""
    until_s = time.monotonic() + DEADLINE_S
    while not _succeeds(call):
        assert time.monotonic() < until_s, "the group's offsets could not be set"
        time.sleep(0.1)


def until(what: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Waits for it, in a thread of its own."""
    until_s = time.monotonic() + deadline_s
    while not what():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.02)


def _succeeds(call: Callable[[], dict[TopicPartition, type[KafkaError]]]) -> bool:
    try:
        return set(call().values()) == {NoError}
    except RetriableError:
        return False


@dataclass(slots=True)
class Topics:
    address: str
    group: str = field(default_factory=lambda: f"stage-{uuid4().hex[:8]}")

    @property
    def source(self) -> str:
        return f"{self.group}-in"

    @property
    def out(self) -> str:
        return f"{self.group}-out"

    @property
    def retry(self) -> str:
        return f"{self.group}-retry"

    @property
    def dead(self) -> str:
        return f"{self.group}-dead"

    def create(self, **limits: int) -> None:
        """With the group's first offsets, as the pipeline's topics are made. limits: bytes, by `out` for instance."""
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            wanted: dict[str, dict[str, Any]] = {
                name: {"num_partitions": PARTITIONS} for name in (self.source, self.out, self.retry, self.dead)
            }
            for name, limit in limits.items():
                wanted[f"{self.group}-{name}"]["configs"] = {"max.message.bytes": str(limit)}
            admin.create_topics(wanted, wait_for_metadata=True)
            first = {
                TopicPartition(name, number): OffsetAndMetadata(0, "", -1)
                for name in (self.source, self.retry)
                for number in range(PARTITIONS)
            }
            _patiently(lambda: admin.alter_group_offsets(self.group, first))
        finally:
            admin.close()

    def write(self, values: Iterable[bytes]) -> dict[bytes, str]:
        """Each is a record of its own, spread over the partitions by its key; the places they got."""
        producer = KafkaProducer(bootstrap_servers=self.address, linger_ms=5, max_request_size=8 * 1024**2)
        try:
            sent = {
                value: producer.send(self.source, value, key=str(index).encode(), headers=[("trace", b"\x00\xff")])
                for index, value in enumerate(values)
            }
            placed = {value: one.get(timeout=DEADLINE_S) for value, one in sent.items()}
            return {value: f"{one.topic}/{one.partition}/{one.offset}" for value, one in placed.items()}
        finally:
            producer.close()

    def read(self, *topics: str) -> list[Read]:
        """All that is committed there now, once no transaction is open on it: behind one nothing can be read."""
        with self._reader() as reader, self._reader(isolation_level="read_uncommitted") as written:
            places = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
            until(lambda: reader.end_offsets(places) == written.end_offsets(places))
            reader.assign(places)
            reader.seek_to_beginning()
            ends = reader.end_offsets(places)
            found: list[Read] = []
            until_s = time.monotonic() + DEADLINE_S
            while any(reader.position(place) < ends[place] for place in places):
                assert time.monotonic() < until_s, "the topics could not be read to their ends"
                for records in reader.poll(timeout_ms=100).values():
                    found += [Read(one.topic, one.key, one.value, dict(one.headers)) for one in records]
            return found

    def lag(self) -> int:
        """What the group has not committed of all that it reads, markers included: as a scaler sees it."""
        with self._reader(group_id=self.group) as reader:
            places = [
                TopicPartition(topic, number) for topic in (self.source, self.retry) for number in range(PARTITIONS)
            ]
            ends = reader.end_offsets(places)
            return sum(ends[place] - (reader.committed(place) or 0) for place in places)

    @contextmanager
    def _reader(self, group_id: str | None = None, isolation_level: str = "read_committed") -> Iterator[KafkaConsumer]:
        reader = KafkaConsumer(
            bootstrap_servers=self.address,
            group_id=group_id,
            isolation_level=isolation_level,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        try:
            yield reader
        finally:
            reader.close()


@dataclass(slots=True)
class Told:
    """Does what its records say: `ok`, `slow:S`, `none`, `two`, `fail:N` (the first N times), `always` (fails),
    `reject`, `oversize`, `later` (once), `large` and `larger` (bytes of its output). Each output is made of its record
    and names its first place. `noted` is told each handling."""

    name: str
    topics: Sequence[str]
    out: str
    calls: Counter[str] = field(default_factory=Counter)
    gate: asyncio.Event | None = None
    noted: Callable[[str], None] | None = None

    async def handle(self, delivery: Delivery) -> Sequence[Output]:
        value = (delivery.record.value or b"").decode()
        self.calls[value] += 1
        if self.noted is not None:
            self.noted(value)
        if self.gate is not None:
            await self.gate.wait()
        verb, _, argument = value.split("#")[0].partition(":")
        await self._act(verb, argument, delivery)
        origin = delivery.origin
        place = f"{origin.partition.topic}/{origin.partition.number}/{origin.offset}"
        return [
            Output(self.out, key.encode(), content, (("place", place.encode()),)) for key, content in made_of(value)
        ]

    async def _act(self, verb: str, argument: str, delivery: Delivery) -> None:
        if verb == "slow":
            await asyncio.sleep(float(argument))
        elif verb == "always" or (verb == "fail" and delivery.failures < int(argument)):
            raise ValueError("told to fail")
        elif verb == "reject":
            raise Reject("TOLD", "by the record")
        elif verb == "oversize":
            raise Oversize("TOO_LONG", "for this stage")
        elif verb == "later" and delivery.postponed == 0:
            raise Retry(0.01)


def made_of(value: str) -> list[tuple[str, bytes]]:
    """Key and content of each output of a record."""
    verb, _, argument = value.split("#")[0].partition(":")
    count = {"none": 0, "two": 2}.get(verb, 1)
    size = {"large": 2_000_000, "larger": int(argument or 0) if verb == "larger" else 0}.get(verb, 0)
    return [(f"{value}/{index}", f"made of {value} {index}".encode() + b"." * size) for index in range(count)]


def bury(topic: str) -> Bury:
    def dead_letter(dead: DeadRecord) -> Output:
        headers = {
            "stage": dead.stage,
            "reason": dead.reason.value,
            "error": dead.error,
            "attempts": str(dead.attempts),
            "origin": "/".join(map(str, (*dead.delivery.origin.partition, dead.delivery.origin.offset))),
            "theirs": repr(dead.delivery.record.headers),
        }
        record = dead.delivery.record
        return Output(
            topic, record.key, record.value or b"", tuple((name, text.encode()) for name, text in headers.items())
        )

    return dead_letter


@dataclass(slots=True)
class Running:
    runner: Runner
    stage: Told
    registry: CollectorRegistry
    task: asyncio.Task[None]
    barks: list[str]

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, {"stage": self.stage.name, **labels}) or 0.0

    async def until(self, what: Callable[[], bool]) -> None:
        """Waits for it, and for no longer than the test's deadline; fails at once when the runner ends."""
        until_s = time.monotonic() + DEADLINE_S
        while not what():
            if self.task.done():
                await self.task
            assert time.monotonic() < until_s, "waited in vain"
            await asyncio.sleep(0.02)

    async def until_read(self, what: Callable[[], bool]) -> None:
        """The same for what asks the broker: the handlers' loop goes on meanwhile."""
        until_s = time.monotonic() + DEADLINE_S
        while not await asyncio.to_thread(what):
            if self.task.done():
                await self.task
            assert time.monotonic() < until_s, "waited in vain"

    async def committed(self, records: int) -> None:
        await self.until(lambda: self.count("themis_pipeline_committed_records_total") >= records)


def make_runner(
    topics: Topics,
    slot: str = "0",
    *,
    limits: RunnerLimits = LIMITS,
    transport: TransportLimits = QUICK,
    failpoints: Failpoints | None = None,
    watchdog: Watchdog,
    limits_bytes: dict[str, int] | None = None,
    group: str | None = None,
) -> tuple[Runner, Told, CollectorRegistry]:
    registry = CollectorRegistry()
    stage = Told(group or topics.group, [topics.source], topics.out)
    retries = Retries(topics.group, topics.retry, bury(topics.dead), POLICY, limits_bytes or {})
    runner = Runner(
        stage,
        retries,
        KafkaTransport({"bootstrap_servers": topics.address}, transport),
        f"{topics.group}-{slot}",
        watchdog,
        RunnerMetrics(RunnerFamilies(registry), topics.group),
        limits,
        failpoints,
    )
    return runner, stage, registry


@asynccontextmanager
async def running(
    topics: Topics,
    slot: str = "0",
    *,
    limits: RunnerLimits = LIMITS,
    transport: TransportLimits = QUICK,
    failpoints: Failpoints | None = None,
    limits_bytes: dict[str, int] | None = None,
    group: str | None = None,
) -> AsyncIterator[Running]:
    """A runner in this process, stopped gracefully at the end."""
    barks: list[str] = []
    watchdog = Watchdog(barks.append)
    watchdog.start()
    runner, stage, registry = make_runner(
        topics,
        slot,
        limits=limits,
        transport=transport,
        failpoints=failpoints,
        watchdog=watchdog,
        limits_bytes=limits_bytes,
        group=group,
    )
    task = asyncio.create_task(runner.run())
    try:
        yield Running(runner, stage, registry, task, barks)
    finally:
        runner.stop()
        await asyncio.wait({task}, timeout=DEADLINE_S)
        watchdog.stop()
    await task
    assert not barks


@asynccontextmanager
async def fed(topics: Topics, verb: str) -> AsyncIterator[dict[bytes, str]]:
    """Writes some hundred records a second until the end of the block; then it holds all that were written."""
    written: dict[bytes, str] = {}
    over = threading.Event()

    def feed() -> None:
        while not over.wait(0.1):
            first = len(written)
            written.update(topics.write([f"{verb}#{first + index}".encode() for index in range(40)]))

    thread = asyncio.create_task(asyncio.to_thread(feed))
    try:
        yield written
    finally:
        over.set()
        await thread


def values(verb: str, count: int) -> list[bytes]:
    return [f"{verb}#{index}".encode() for index in range(count)]


def assert_accounted(topics: Topics, written: Mapping[bytes, str], buried: Collection[bytes] = ()) -> None:
    """Each record once: in its outputs, contents and places included, or as it was in the dead letters."""
    expected = Counter(
        (key, content, place)
        for value, place in written.items()
        if value not in buried
        for key, content in made_of(value.decode())
    )
    found = Counter((one.key.decode(), one.value, one.headers["place"].decode()) for one in topics.read(topics.out))
    assert not [key for key, _, _ in expected - found], "lost"
    assert not [key for key, _, _ in found - expected], "doubled, or not as expected"
    letters = Counter((one.value, one.headers["origin"].decode()) for one in topics.read(topics.dead))
    assert letters == Counter((value, written[value]) for value in buried)


def keys(read: Iterable[Read]) -> list[str]:
    return sorted(one.key.decode() for one in read)


def first_outputs(written: Iterable[bytes]) -> list[str]:
    return sorted(f"{value.decode()}/0" for value in written)


def smaller(window_records: int) -> RunnerLimits:
    return replace(LIMITS, window_records=window_records)
