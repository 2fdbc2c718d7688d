"""When a transaction is due, and what is read meanwhile."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from themis_pipeline.kafka.seam import Membership, Partition, Record
from themis_pipeline.runner.assignment import Assignment, Work
from themis_pipeline.runner.metrics import RunnerFamilies, RunnerMetrics

WINDOW, MANY = 8, 1000
BUSY, OTHER, *IDLE = [Partition("in", number) for number in range(6)]


@pytest.fixture
def assignment() -> Assignment:
    metrics = RunnerMetrics(RunnerFamilies(CollectorRegistry()), "stage")
    made = Assignment(metrics, lambda epochs: None, max_records=WINDOW, max_bytes=2**20)
    everything = (BUSY, OTHER, *IDLE)
    made.came(everything)
    made.place(dict.fromkeys(everything, 0))
    made.opened(Membership("stage", 1, "member", stable=True))
    return made


def taken(assignment: Assignment, partition: Partition, count: int, start: int = 0) -> list[Work]:
    return assignment.take({partition: [Record(partition, start + number, None, b"") for number in range(count)]})


def test_partitions_without_records_are_not_waited_for(assignment: Assignment) -> None:
    works = taken(assignment, BUSY, 6) + taken(assignment, OTHER, 4)
    for work in works[:7]:
        assignment.finish(work, ())
    assert not assignment.due(MANY)
    assignment.finish(works[7], ())  # half of what the two can hold
    assert assignment.due(MANY)


def test_so_many_records_are_enough_in_any_case(assignment: Assignment) -> None:
    first, second, *_ = taken(assignment, BUSY, 6)
    assignment.finish(first, ())
    assert not assignment.due(2)
    assignment.finish(second, ())
    assert assignment.due(2)


def test_what_waited_for_a_slow_one_is_committed_when_that_is_done(assignment: Assignment) -> None:
    slow, *others = taken(assignment, BUSY, WINDOW)
    for work in taken(assignment, OTHER, 2):
        assignment.finish(work, ())
    for work in others[:2]:
        assignment.finish(work, ())
    assert not assignment.due(MANY)
    assignment.finish(slow, ())
    assert assignment.due(MANY)
    batch = assignment.batch(max_records=MANY, max_bytes=2**20)
    assert batch is not None
    assert batch.records == 5
    assignment.committed(batch)
    assert not assignment.due(MANY)


def test_nothing_is_due_without_a_place_in_the_group(assignment: Assignment) -> None:
    """Or the thread that commits would turn round and round."""
    for work in taken(assignment, BUSY, WINDOW):
        assignment.finish(work, ())
    assert assignment.due(1)
    assignment.came((BUSY,))
    assert not assignment.due(1)


def test_a_little_room_is_left_alone_while_records_come(assignment: Assignment) -> None:
    taken(assignment, BUSY, WINDOW - 1)
    taken(assignment, OTHER, WINDOW)
    rooms = assignment.rooms(any_room=False)
    assert (rooms.readable, rooms.full, rooms.records) == (frozenset(IDLE), frozenset({BUSY, OTHER}), WINDOW)
    rooms = assignment.rooms(any_room=True)
    assert (rooms.readable, rooms.full, rooms.records) == (frozenset({BUSY, *IDLE}), frozenset({OTHER}), 1)


def test_the_last_room_is_used_where_there_is_no_other(assignment: Assignment) -> None:
    for partition in (OTHER, *IDLE):
        taken(assignment, partition, WINDOW)
    taken(assignment, BUSY, WINDOW - 1)
    assert assignment.rooms(any_room=False).readable == {BUSY}
