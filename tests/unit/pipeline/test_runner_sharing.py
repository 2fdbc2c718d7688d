"""Who gets which partitions, whatever the members say that they had."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from themis_pipeline.kafka.seam import Partition
from themis_pipeline.kafka.sharing import EvenAssignor, shared

TOPICS = st.dictionaries(st.sampled_from(["in", "more", "retry"]), st.integers(1, 13), min_size=1)
CLAIMS = st.lists(st.tuples(st.sampled_from(["in", "more", "retry", "gone"]), st.integers(0, 15)), max_size=20)
MEMBERS = st.dictionaries(st.sampled_from("abcde"), CLAIMS, min_size=1)


def share(topics: dict[str, int], claims: dict[str, list[tuple[str, int]]]) -> dict[str, list[Partition]]:
    return shared(
        {topic: range(count) for topic, count in topics.items()},
        dict.fromkeys(claims, tuple(topics)),
        {member: [Partition(*one) for one in theirs] for member, theirs in claims.items()},
    )


@given(topics=TOPICS, claims=MEMBERS)
def test_each_partition_has_one_owner_and_each_topic_is_shared_evenly(
    topics: dict[str, int], claims: dict[str, list[tuple[str, int]]]
) -> None:
    """Also where several say that they had the same, or what isn't there."""
    given_ = share(topics, claims)
    assert sorted(one for theirs in given_.values() for one in theirs) == sorted(
        Partition(topic, number) for topic, count in topics.items() for number in range(count)
    )
    for topic in topics:
        counts = Counter(dict.fromkeys(claims, 0))
        counts.update(member for member, theirs in given_.items() for one in theirs if one.topic == topic)
        assert max(counts.values()) - min(counts.values()) <= 1


@given(topics=TOPICS, claims=MEMBERS)
def test_nothing_moves_without_need(topics: dict[str, int], claims: dict[str, list[tuple[str, int]]]) -> None:
    first = share(topics, claims)
    again = share(topics, {member: [(topic, number) for topic, number in theirs] for member, theirs in first.items()})
    assert again == first


@given(topics=TOPICS, claims=MEMBERS)
def test_who_comes_takes_only_his_share(topics: dict[str, int], claims: dict[str, list[tuple[str, int]]]) -> None:
    before = share(topics, claims)
    after = share(
        topics,
        {**{member: [(topic, number) for topic, number in theirs] for member, theirs in before.items()}, "new": []},
    )
    for member, theirs in before.items():
        assert set(after[member]) <= set(theirs)


def test_a_topic_that_one_member_reads_is_his() -> None:
    found = shared({"in": [0, 1], "own": [0]}, {"a": ["in"], "b": ["in", "own"], "c": []}, {})
    assert found["c"] == []
    assert Partition("own", 0) in found["b"]
    assert len(found["a"]) == 1


def test_what_a_member_says_comes_back_from_the_wire() -> None:
    first, second = EvenAssignor(), EvenAssignor()
    cluster = _Cluster({"in": 4, "retry": 2})
    for one in (first, second):
        made = one.assign(cluster, [_Member("a", first), _Member("b", second)])
        for member, assignor in (("a", first), ("b", second)):
            assignor.on_assignment(made[member], 1)
    assert first.metadata(["in"]).user_data == b'{"in": [0, 1], "retry": [0]}'
    alone = first.assign(cluster, [_Member("a", first)])
    assert sorted(alone["a"].partitions()) == [("in", 0), ("in", 1), ("in", 2), ("in", 3), ("retry", 0), ("retry", 1)]


class _Cluster:
    def __init__(self, topics: dict[str, int]) -> None:
        self._topics = topics

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self._topics[topic])) if topic in self._topics else None


class _Member:
    def __init__(self, name: str, assignor: EvenAssignor) -> None:
        self.member_id = name
        self.metadata = assignor.metadata(["in", "retry", "missing"])
