"""A partition's window against a plain model of it: whatever finishes when, the prefix is what may be committed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from themis_pipeline.kafka.seam import Output, Partition, Record
from themis_pipeline.runner.window import OutOfOrder, PartitionWindow, WindowFull

PLACE = Partition("in", 3)
MAX_RECORDS, MAX_BYTES = 8, 1_500


def record(offset: int, size: int = 10, leader_epoch: int = 2) -> Record:
    return Record(PLACE, offset, b"k", b"v" * size, leader_epoch=leader_epoch)


def output(name: str, size: int = 10) -> Output:
    return Output("out", name.encode(), b"o" * size)


def window(max_records: int = MAX_RECORDS, max_bytes: int = MAX_BYTES) -> PartitionWindow:
    return PartitionWindow(PLACE, 1, 0, max_records, max_bytes)


def names(outputs: Iterable[Output]) -> list[bytes | None]:
    return [one.key for one in outputs]


class WindowModel(RuleBasedStateMachine):
    """Offsets have gaps, as they have in a topic with transactions; records have several outputs, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.window = window()
        self.next = 0
        self.given: list[int] = []
        self.done: dict[int, list[Output]] = {}
        self.committed_outputs: list[Output] = []
        self.all_outputs: list[Output] = []
        self.reached = -1

    @rule(gap=st.integers(0, 3), size=st.integers(0, 400))
    def take(self, gap: int, size: int) -> None:
        if self.window.room == 0:
            return
        self.window.take(record(self.next + gap, size))
        self.given.append(self.next + gap)
        self.next += gap + 1

    @precondition(lambda self: len(self.given) > len(self.done))
    @rule(data=st.data(), count=st.integers(0, 2))
    def finish(self, data: st.DataObject, count: int) -> None:
        offset = data.draw(st.sampled_from([one for one in self.given if one not in self.done]))
        self.done[offset] = [output(f"{offset}/{index}") for index in range(count)]
        self.window.finished(offset, self.done[offset])

    @rule(gap=st.integers(0, 2))
    def reach(self, gap: int) -> None:
        self.next += gap
        self.reached = self.next
        self.window.reached(self.next)

    @rule(limit=st.integers(1, 4), weight=st.integers(1, 300))
    def commit(self, limit: int, weight: int) -> None:
        prefix = self.window.prefix(limit, weight)
        assert prefix == self.window.prefix(limit, weight)
        if prefix is None:
            return
        assert prefix.place.offset > self.window.committed
        behind = [one for one in self.given if one < prefix.place.offset]
        assert all(one in self.done for one in behind)
        assert len(behind) == prefix.records <= limit
        assert list(prefix.outputs) == [out for one in behind for out in self.done[one]]
        assert len(behind) == self.window.commit(prefix.place.offset)
        self.committed_outputs += prefix.outputs
        self.all_outputs += [out for one in behind for out in self.done[one]]
        self.given = self.given[len(behind) :]
        for one in behind:
            del self.done[one]

    @invariant()
    def each_output_once(self) -> None:
        assert names(self.committed_outputs) == names(self.all_outputs)
        assert len(set(names(self.committed_outputs))) == len(self.committed_outputs)

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.window) <= MAX_RECORDS
        assert self.window.unfinished == len(self.given) - len(self.done)
        assert self.window.ready == len(list(takewhile(lambda one: one in self.done, self.given)))
        weight = sum(record(0, 0).size_bytes for _ in self.given)
        assert self.window.size_bytes >= weight
        if not self.given:
            assert self.window.size_bytes == 0
        assert self.window.room <= MAX_RECORDS - len(self.given)

    @invariant()
    def nothing_ready_is_withheld(self) -> None:
        first_done = bool(self.given) and self.given[0] in self.done
        past_markers = not self.given and self.reached > self.window.committed
        assert (self.window.prefix(1, 1) is not None) == (first_done or past_markers)


TestWindowModel = WindowModel.TestCase


def test_an_idle_window_goes_past_the_markers() -> None:
    one = window()
    one.take(record(4))
    one.reached(6)
    assert one.prefix(9, 999) is None
    one.finished(4, [])
    prefix = one.prefix(9, 999)
    assert prefix is not None
    assert prefix.place == (6, 2)


def test_markers_are_not_passed_while_a_record_before_them_is_left() -> None:
    one = window()
    one.take(record(4))
    one.take(record(5))
    one.reached(9)
    one.finished(4, [])
    prefix = one.prefix(9, 999)
    assert prefix is not None
    assert prefix.place.offset == 5


def test_the_first_record_is_committed_however_heavy() -> None:
    one = window()
    one.take(record(0))
    one.finished(0, [output("heavy", 5_000)])
    assert one.room == 0
    prefix = one.prefix(1, 10)
    assert prefix is not None
    assert names(prefix.outputs) == [b"heavy"]


def test_bytes_leave_no_room() -> None:
    one = window(max_bytes=200)
    one.take(record(0, 300))
    assert one.room == 0
    one.finished(0, [])
    one.commit(1)
    assert one.room == MAX_RECORDS


@given(extra=st.integers(1, 5))
def test_more_than_the_bound_is_refused(extra: int) -> None:
    one = window(max_records=extra)
    for offset in range(extra):
        one.take(record(offset))
    with pytest.raises(WindowFull):
        one.take(record(extra))


def test_a_record_from_before_is_refused() -> None:
    one = window()
    one.take(record(7))
    with pytest.raises(OutOfOrder):
        one.take(record(7))


def test_what_is_not_in_hand_is_not_finished() -> None:
    one = window()
    one.take(record(7))
    one.finished(7, [])
    for offset in (7, 8):
        with pytest.raises(OutOfOrder):
            one.finished(offset, [])


def test_an_unfinished_record_is_not_committed() -> None:
    one = window()
    one.take(record(7))
    with pytest.raises(OutOfOrder):
        one.commit(8)
