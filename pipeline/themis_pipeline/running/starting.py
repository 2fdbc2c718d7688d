"""What is looked at before a stage starts, so that what is wrong is told at once and not by each record."""

from __future__ import annotations

from collections.abc import Sequence

from themis_pipeline.config import TopicsConfig
from themis_pipeline.running.kind import Kind
from themis_pipeline.topics import STAGES, Topic, dead_letter_topic, retry_topic
from themis_pipeline.topics.laying import Cluster, Difference, check

REMEDY = "`themis-pipeline topics create` makes what is missing"


class TopicsMissing(Exception):
    """Something that a stage reads or writes isn't there; the text says what, and what to do."""


def topics_of(stage: str, kind: Kind | None, config: TopicsConfig) -> list[Topic]:
    """All that a stage touches, placed. kind: None where it writes no topic but that of its letters."""
    others = () if kind is None else (*kind.writes, *kind.looks_at)
    touched = (*STAGES[stage], retry_topic(stage), dead_letter_topic(stage), *others)
    return [topic.placed(config) for topic in touched]


def check_topics(cluster: Cluster, topics: Sequence[Topic], stages: Sequence[str], prefix: str) -> list[Difference]:
    """Where the topics, placed, differ from the table without stopping `stages`. Raises TopicsMissing, BrokerError."""
    once = list({topic.name: topic for topic in topics}.values())
    found = cluster.find([topic.name for topic in once])
    missing = sorted(topic.name for topic in once if topic.name not in found)
    if missing:
        raise TopicsMissing(f"topics: {', '.join(missing)}: not there; {REMEDY}")
    for topic in once:
        if topic.stage is None or topic.stage not in stages:
            continue
        group = prefix + topic.stage
        without = cluster.uncommitted(group, topic.name, found[topic.name].partitions)
        if without:
            numbers = ", ".join(map(str, without))
            raise TopicsMissing(f"topics: {group} has no offset on {topic.name} {numbers}; {REMEDY}")
    # Other stages' offsets are their own business.
    return check(cluster, [topic for topic in once if topic.stage in (None, *stages)], prefix)
