"""Members of a group against a broker that takes a transaction of the current generation and refuses all others: in
whatever order they learn of its changes, each record's output is written once."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from prometheus_client import CollectorRegistry

from themis_pipeline.kafka.seam import Membership, Output, Partition, Record
from themis_pipeline.runner.assignment import Assignment, Batch, Work
from themis_pipeline.runner.metrics import RunnerFamilies, RunnerMetrics

PARTITIONS = [Partition("in", number) for number in range(3)]
RECORDS = 12
MEMBERS = 3


@dataclass(slots=True)
class Broker:
    """What the group has committed, and all outputs that are."""

    generation: int = 0
    committed: dict[Partition, int] = field(default_factory=lambda: dict.fromkeys(PARTITIONS, 0))
    outputs: list[bytes | None] = field(default_factory=list)

    def commit(self, batch: Batch) -> bool:
        if batch.membership.generation != self.generation:
            return False
        for prefix in batch.prefixes:
            assert prefix.place.offset > self.committed[prefix.partition], "moved back"
            self.committed[prefix.partition] = prefix.place.offset
            self.outputs += [output.key for output in prefix.outputs]
        return True


class Member:
    def __init__(self, name: str) -> None:
        self.name = name
        self.generation = -1
        self.told: tuple[int, list[Partition]] | None = None
        self.positions: dict[Partition, int] = {}
        self.works: list[Work] = []
        self.unsure: Batch | None = None
        self.given_up: set[int] = set()
        metrics = RunnerMetrics(RunnerFamilies(CollectorRegistry()), name)
        self.has = Assignment(metrics, self.given_up.update, max_records=4, max_bytes=10_000)

    def learn(self) -> None:
        if self.told is not None:
            self.generation, partitions = self.told
            self.told = None
            self.has.came(partitions)

    def open(self, broker: Broker) -> None:
        if self.has.unopened:
            self.positions = self.has.place({one: broker.committed[one] for one in self.has.unopened})
            self.has.opened(Membership("group", self.generation, self.name, stable=True))

    def read(self, count: int) -> None:
        for partition in sorted(self.has.rooms(any_room=True).readable):
            if partition in self.positions and not self.has.unopened:
                first = self.positions[partition]
                last = min(RECORDS, first + min(count, self.has.rooms(any_room=True).records))
                records = [Record(partition, offset, b"k", b"v") for offset in range(first, last)]
                taken = self.has.take({partition: records})
                self.works += taken
                # What isn't taken is read again from where the partition is opened: positions go on all the same.
                self.positions[partition] = last

    def finish(self, work: Work) -> None:
        self.works.remove(work)
        key = f"{work.record.partition.number}/{work.record.offset}".encode()
        assert self.has.finish(work, [Output("out", key, b"v")]) != (work.epoch in self.given_up)

    def commit(self, broker: Broker, answered: bool) -> None:
        self.settle(broker)
        batch = self.has.batch(max_records=5, max_bytes=10_000)
        if batch is None:
            return
        taken = broker.commit(batch)
        if not answered:
            self.unsure = batch
        elif taken:
            self.has.committed(batch)

    def settle(self, broker: Broker) -> None:
        unsure, self.unsure = self.unsure, None
        if unsure is not None:
            self.has.committed(unsure, broker.committed)


class Group(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.members = [Member(f"m{index}") for index in range(MEMBERS)]

    @initialize()
    def begin(self) -> None:
        self.changes([0, 0, 0])

    @rule(owners=st.lists(st.integers(0, MEMBERS - 1), min_size=len(PARTITIONS), max_size=len(PARTITIONS)))
    def changes(self, owners: list[int]) -> None:
        """A generation begins; its members learn of it later, each at a time of its own."""
        self.broker.generation += 1
        for index, member in enumerate(self.members):
            theirs = [one for one, owner in zip(PARTITIONS, owners, strict=True) if owner == index]
            member.told = (self.broker.generation, theirs)

    @rule(index=st.integers(0, MEMBERS - 1))
    def learns(self, index: int) -> None:
        self.members[index].learn()

    @rule(index=st.integers(0, MEMBERS - 1))
    def opens(self, index: int) -> None:
        self.members[index].open(self.broker)

    @rule(index=st.integers(0, MEMBERS - 1))
    def loses(self, index: int) -> None:
        self.members[index].has.lost()
        self.members[index].generation = -1

    @rule(index=st.integers(0, MEMBERS - 1), count=st.integers(1, 3))
    def reads(self, index: int, count: int) -> None:
        self.members[index].read(count)

    @precondition(lambda self: any(member.works for member in self.members))
    @rule(data=st.data())
    def finishes(self, data: st.DataObject) -> None:
        member = data.draw(st.sampled_from([member for member in self.members if member.works]))
        member.finish(data.draw(st.sampled_from(member.works)))

    @rule(index=st.integers(0, MEMBERS - 1), answered=st.booleans())
    def commits(self, index: int, answered: bool) -> None:
        self.members[index].commit(self.broker, answered)

    @rule(index=st.integers(0, MEMBERS - 1), count=st.integers(1, 3))
    def gets_on(self, index: int, count: int) -> None:
        """All of it, so that others' work is really done while one knows nothing of it."""
        member = self.members[index]
        member.learn()
        member.open(self.broker)
        member.read(count)
        for work in list(member.works):
            member.finish(work)
        member.commit(self.broker, answered=True)

    @invariant()
    def nothing_is_written_twice(self) -> None:
        assert len(set(self.broker.outputs)) == len(self.broker.outputs)

    @invariant()
    def what_is_committed_is_written(self) -> None:
        passed = {
            f"{one.number}/{offset}".encode() for one, end in self.broker.committed.items() for offset in range(end)
        }
        assert set(self.broker.outputs) == passed

    def teardown(self) -> None:
        """One that has them all gets through: nothing is left in hand for ever."""
        self.changes([0, 0, 0])
        for member in self.members:
            member.learn()
            member.open(self.broker)
        last = self.members[0]
        for _ in range(RECORDS * len(PARTITIONS)):
            last.read(3)
            for work in list(last.works):
                last.finish(work)
            last.commit(self.broker, answered=True)
        assert set(self.broker.committed.values()) == {RECORDS}
        self.nothing_is_written_twice()
        self.what_is_committed_is_written()


TestGroup = Group.TestCase
TestGroup.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
