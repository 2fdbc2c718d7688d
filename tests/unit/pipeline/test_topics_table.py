from __future__ import annotations

import re
from collections import Counter

import pytest
from google.protobuf.descriptor import FieldDescriptor
from pydantic import ValidationError
from pydantic_settings import SettingsError

from themis_pipeline.config import TopicsConfig
from themis_pipeline.topics import (
    NEW_PROMPTS,
    SCORED,
    STAGES,
    TABLE,
    Topic,
    dead_letter_topic,
    placed_table,
    retry_topic,
)
from themis_proto.v1.events_pb2 import (
    DeadLetter,
    DeadLetterReplayed,
    Instruction,
    Labelled,
    NewPrompt,
    Plan,
    ReferenceText,
    Scored,
)


def test_names_are_told_apart_by_brokers() -> None:
    """A broker's metrics don't tell "a.b" from "a_b"."""
    names = [topic.name for topic in placed_table(TopicsConfig())]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"themis-[a-z]+(-[a-z]+)*", name) for name in names)


@pytest.mark.parametrize("topic", TABLE, ids=lambda topic: topic.name)
def test_keys_are_texts_of_the_events(topic: Topic) -> None:
    for event in topic.events if topic.key else ():
        *path, last = topic.key.split(".") if topic.key else []
        message = event.DESCRIPTOR
        for name in path:
            inner = message.fields_by_name[name].message_type
            assert inner is not None
            message = inner
        assert message.fields_by_name[last].type == FieldDescriptor.TYPE_STRING


def test_the_key_of_an_event() -> None:
    event = Scored(labelled=Labelled(instruction=Instruction(id="i")))
    assert SCORED.key_of(event) == b"i"
    assert NEW_PROMPTS.key_of(NewPrompt(id="p")) is None
    with pytest.raises(ValueError, match="without labelled"):
        SCORED.key_of(Scored())


def test_every_event_topic_is_read_by_one_stage_or_by_people() -> None:
    reads = Counter(topic.name for topics in STAGES.values() for topic in topics)
    assert set(reads.values()) == {1}
    assert {topic.name for topic in TABLE if topic.stage is None} == {
        "annotation-tasks",
        *(f"{stage}-dead" for stage in STAGES),
    }


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_is_sent_fits_where_it_goes_next(stage: str) -> None:
    retry, dead = retry_topic(stage), dead_letter_topic(stage)
    for topic in STAGES[stage]:
        assert retry.max_event_bytes >= topic.max_event_bytes
        assert retry.max_message_bytes > topic.max_message_bytes
        assert set(topic.events) <= set(retry.events)
    assert dead.max_message_bytes > retry.max_message_bytes
    assert dead.max_event_bytes >= retry.max_message_bytes
    assert dead.events == (DeadLetter, DeadLetterReplayed)
    assert retry.stage == stage


def test_json_is_read_from_people_alone() -> None:
    fed = {
        topic.name: topic.json_as for topic in TABLE if topic.feeds_json and topic.stage and "-retry" not in topic.name
    }
    assert set(fed) == {"new-prompts", "reference-texts", "annotation-labels"}
    assert fed["new-prompts"] is NewPrompt
    assert fed["reference-texts"] is ReferenceText
    assert {topic.json_as for topic in TABLE if topic.events == (Plan,)} == {None}


def test_settings_lay_the_table_out() -> None:
    placed = NEW_PROMPTS.placed(TopicsConfig(prefix="a-", replication=1, min_isr=1, partitions={"new-prompts": 2}))
    assert (placed.name, placed.partitions, placed.replication) == ("a-new-prompts", 2, 1)
    assert placed.settings == {
        "cleanup.policy": "delete",
        "retention.ms": str(14 * 24 * 3600 * 1000),
        "max.message.bytes": str(4 * 1024 * 1024),
        "min.insync.replicas": "1",
        "message.timestamp.type": "LogAppendTime",
        "retention.bytes": "-1",
        "unclean.leader.election.enable": "false",
    }


def test_partitions_of_no_topic_are_refused() -> None:
    with pytest.raises(SettingsError, match="new-promts"):
        placed_table(TopicsConfig(partitions={"new-promts": 2}))


def test_more_copies_than_there_are() -> None:
    with pytest.raises(ValidationError, match="min_isr"):
        TopicsConfig(replication=1)
