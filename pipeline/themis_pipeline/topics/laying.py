"""Makes the topics of the table, and says where a cluster differs from it.

What exists is never changed: keys would change their partitions, and what somebody set on a cluster was meant.
Offsets are committed before any stage runs: without one a stage stops, since "latest" would pass over what came in
before it first looked, on a new partition too. A group that has no offset at all on a topic with records is another
matter: brokers forget the offsets of a group that was away for long, and from the start it would do all again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from themis_pipeline.topics.topic import Topic


class Standing(Protocol):
    """A topic as it stands on a cluster."""

    @property
    def partitions(self) -> int: ...

    @property
    def replication(self) -> int: ...

    @property
    def settings(self) -> Mapping[str, str]: ...


class Cluster(Protocol):
    def find(self, names: Sequence[str]) -> Mapping[str, Standing]: ...

    def create(self, name: str, partitions: int, replication: int, settings: Mapping[str, str]) -> None: ...

    def uncommitted(self, group: str, topic: str, partitions: int) -> Sequence[int]: ...

    def commit_starts(self, group: str, topic: str, partitions: Sequence[int]) -> None: ...

    def holds_records(self, topic: str, partitions: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """Something of a topic that isn't as the table says."""

    topic: str
    what: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} is {self.found}, not {self.wanted}"


def create(
    cluster: Cluster,
    topics: Sequence[Topic],
    prefix: str,
    say: Callable[[str], None],
    from_start: Collection[str] = (),
) -> None:
    """Makes the topics that are missing, and commits offsets that are. Safe to repeat, and to go on with after a
    failure. `topics` are placed; `prefix` is that of the groups; from_start: stages that may begin at the start of
    topics on which they have no offset though there are records."""
    found = cluster.find([topic.name for topic in topics])
    for topic in topics:
        if topic.name not in found:
            cluster.create(topic.name, topic.partitions, topic.replication, topic.settings)
            say(f"{topic.name}: created with {topic.partitions} partitions")
        if topic.stage is not None:
            partitions = found[topic.name].partitions if topic.name in found else topic.partitions
            sure = topic.name not in found or topic.stage in from_start
            told = _begin(cluster, topic, prefix + topic.stage, partitions, sure=sure)
            if told:
                say(f"{topic.name}: {told}")


def _begin(cluster: Cluster, topic: Topic, group: str, partitions: int, *, sure: bool) -> str:
    """What was done, or wasn't."""
    missing = cluster.uncommitted(group, topic.name, partitions)
    if not missing:
        return ""
    # Partitions that were added begin at their start.
    if not sure and len(missing) == partitions and cluster.holds_records(topic.name, partitions):
        return (
            f"there are records and {group} has no offset: it never began, or was away for so long that the brokers "
            f"forgot it; --from-start {topic.stage} lets it handle all of them, those that it handled before as well"
        )
    cluster.commit_starts(group, topic.name, missing)
    return f"{group} begins at the start of {len(missing)} partitions"


def check(cluster: Cluster, topics: Sequence[Topic], prefix: str) -> list[Difference]:
    """Where the cluster isn't as the table says; changes nothing."""
    found = cluster.find([topic.name for topic in topics])
    return [
        difference
        for topic in topics
        for difference in (
            [*_differences(topic, found[topic.name]), *_offsets(cluster, topic, found[topic.name].partitions, prefix)]
            if topic.name in found
            else [Difference(topic.name, "the topic", "there", "missing")]
        )
    ]


def _differences(topic: Topic, found: Standing) -> Iterable[Difference]:
    if found.partitions != topic.partitions:
        yield Difference(topic.name, "partitions", str(topic.partitions), str(found.partitions))
    if found.replication != topic.replication:
        yield Difference(topic.name, "replication", str(topic.replication), str(found.replication))
    for name, wanted in topic.settings.items():
        if found.settings.get(name) != wanted:
            yield Difference(topic.name, name, wanted, found.settings.get(name, "unknown"))


def _offsets(cluster: Cluster, topic: Topic, partitions: int, prefix: str) -> Iterable[Difference]:
    if topic.stage is None:
        return
    group = prefix + topic.stage
    missing = cluster.uncommitted(group, topic.name, partitions)
    if missing:
        numbers = ", ".join(map(str, missing))
        yield Difference(topic.name, f"the offset of {group} on {numbers}", "committed", "missing")
