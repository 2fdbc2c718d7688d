"""Who gets which partitions: of each topic every member the same number but one, and as far as it can what it had.

The library's own sticky ways count all topics' partitions together, so that one member may get all of a stage's input
and another nothing but its retries; and the cooperative one takes a member that was thrown out and comes back at its
word, and gives a partition to it that its owner has not let go of (3.0.12).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor  # type: ignore[import-untyped]
from kafka.protocol.consumer.metadata import (  # type: ignore[import-untyped]
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)

from themis_pipeline.kafka.seam import Partition

VERSION = 0


def shared(
    partitions: Mapping[str, Sequence[int]],
    subscribed: Mapping[str, Sequence[str]],
    had: Mapping[str, Sequence[Partition]],
) -> dict[str, list[Partition]]:
    """`partitions` by topic; `subscribed` and `had` by member. Each partition goes to one member, whatever they say
    that they had; those left over go to whom has the fewest."""
    given: dict[str, list[Partition]] = {member: [] for member in subscribed}
    for topic in sorted(partitions):
        members = sorted(member for member, topics in subscribed.items() if topic in topics)
        if members:
            for member, one in _of_topic(topic, partitions[topic], members, given, had):
                given[member].append(one)
    return given


def _of_topic(
    topic: str,
    numbers: Sequence[int],
    members: Sequence[str],
    given: Mapping[str, Sequence[Partition]],
    had: Mapping[str, Sequence[Partition]],
) -> list[tuple[str, Partition]]:
    least, more = divmod(len(numbers), len(members))
    left = {Partition(topic, number) for number in numbers}
    kept: dict[str, list[Partition]] = {}
    for member in members:
        kept[member] = sorted(left.intersection(had.get(member, ())))[: least + 1]
        left -= set(kept[member])
    # Those that may have one more are who has that many already, and then who has the fewest of other topics.
    order = sorted(members, key=lambda member: (len(kept[member]) <= least, len(given[member]), member))
    quotas = {member: least + (place < more) for place, member in enumerate(order)}
    for member in members:
        left.update(kept[member][quotas[member] :])
        del kept[member][quotas[member] :]
    free = sorted(left)
    for member in order:
        while len(kept[member]) < quotas[member]:
            kept[member].append(free.pop(0))
    return [(member, one) for member in members for one in sorted(kept[member])]


class EvenAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """One for each consumer. Eager: at each change all members let go of everything before anybody gets anything, so
    that a generation's member is the only one to commit for its partitions, and the broker refuses all others."""

    name = "themis-even"
    version = VERSION

    def __init__(self) -> None:
        self._had: dict[str, list[int]] = {}

    def metadata(self, topics: Sequence[str]) -> Any:
        return ConsumerProtocolSubscription(VERSION, sorted(topics), json.dumps(self._had).encode())

    def on_assignment(self, assignment: Any, generation: int) -> None:
        self._had = {topic: sorted(numbers) for topic, numbers in assignment.assigned_partitions}

    def assign(self, cluster: Any, members: Sequence[Any]) -> dict[str, Any]:
        subscribed = {member.member_id: list(member.metadata.topics) for member in members}
        topics = {topic for theirs in subscribed.values() for topic in theirs}
        partitions = {topic: sorted(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        had = {member.member_id: _had(member.metadata.user_data) for member in members}
        return {member: _assignment(ones) for member, ones in shared(partitions, subscribed, had).items()}


def _had(told: bytes | None) -> list[Partition]:
    return [Partition(topic, number) for topic, numbers in json.loads(told or b"{}").items() for number in numbers]


def _assignment(partitions: Sequence[Partition]) -> Any:
    by_topic: dict[str, list[int]] = {}
    for one in partitions:
        by_topic.setdefault(one.topic, []).append(one.number)
    return ConsumerProtocolAssignment(VERSION, sorted(by_topic.items()), b"")
