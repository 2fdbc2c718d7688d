"""First offsets of groups: what the brokers say of each partition is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import (  # type: ignore[import-untyped]
    CoordinatorLoadInProgressError,
    GroupAuthorizationFailedError,
    NoError,
)
from kafka.structs import TopicPartition  # type: ignore[import-untyped]

from themis_pipeline.kafka.admin import Admin
from themis_pipeline.kafka.errors import BrokerError

FIRST, SECOND = TopicPartition("topic", 0), TopicPartition("topic", 1)
ALL_WELL = {FIRST: NoError, SECOND: NoError}


class Answers:
    """A client whose answers are given."""

    def __init__(self, *altered: Mapping[Any, Any]) -> None:
        self._altered = list(altered)
        self.asked: list[Mapping[Any, Any]] = []

    def list_partition_offsets(self, places: Sequence[Any]) -> dict[Any, Any]:
        return {place: SimpleNamespace(offset=7 + place.partition) for place in places}

    def alter_group_offsets(self, group: str, wanted: Mapping[Any, Any]) -> Mapping[Any, Any]:
        self.asked.append(wanted)
        return self._altered.pop(0) if len(self._altered) > 1 else self._altered[0]


class Clock:
    """Goes on by what is waited."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


def commit(client: Answers, clock: Clock | None = None) -> None:
    clock = clock or Clock()
    Admin(client, 10.0, clock, clock.wait).commit_starts("group", "topic", [0, 1])


def test_each_partition_starts_where_its_records_do() -> None:
    client = Answers(ALL_WELL)
    commit(client)
    assert [{place: offset.offset for place, offset in asked.items()} for asked in client.asked] == [
        {FIRST: 7, SECOND: 8}
    ]


def test_a_coordinator_that_is_not_ready_is_waited_for() -> None:
    client = Answers({FIRST: NoError, SECOND: CoordinatorLoadInProgressError}, ALL_WELL)
    commit(client)
    assert len(client.asked) == 2


def test_it_is_not_waited_for_without_end() -> None:
    clock = Clock()
    with pytest.raises(BrokerError, match=r"^group: CoordinatorLoadInProgressError$"):
        commit(Answers({FIRST: CoordinatorLoadInProgressError, SECOND: NoError}), clock)
    assert 10.0 <= clock.now_s < 11.0


def test_one_partition_that_is_refused_is_an_error() -> None:
    client = Answers({FIRST: NoError, SECOND: GroupAuthorizationFailedError})
    with pytest.raises(BrokerError, match=r"^group: GroupAuthorizationFailedError$"):
        commit(client)
    assert len(client.asked) == 1


def test_a_partition_without_an_answer_is_an_error() -> None:
    with pytest.raises(BrokerError, match=r"^group: UnknownError$"):
        commit(Answers({FIRST: NoError}))
