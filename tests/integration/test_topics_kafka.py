"""`themis-pipeline topics` against a real broker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata, TopicPartition  # type: ignore[import-untyped]

from themis_pipeline.__main__ import main
from themis_pipeline.local.broker import KafkaBroker
from themis_pipeline.topics import STAGES, TABLE

Topics = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def admin(kafka: KafkaBroker) -> Iterator[Any]:
    client = KafkaAdminClient(bootstrap_servers=kafka.address)
    yield client
    client.close()


@pytest.fixture
def topics(kafka: KafkaBroker, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Topics:
    """`topics(action, flag...)` gives exit code, lines of output and what was complained about."""

    def run(action: str, *flags: str) -> tuple[int, list[str], str]:
        own = ("--topics.prefix", prefix_of(request), "--topics.replication", "1", "--topics.min_isr", "1")
        few = ('--topics.partitions={"new-prompts": 2}',)
        code = main(["topics", action, "--kafka.bootstrap_servers", kafka.address, *own, *few, *flags])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err

    return run


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return prefix_of(request)


def prefix_of(request: pytest.FixtureRequest) -> str:
    return request.node.name.replace("_", "-") + "-"  # type: ignore[no-any-return]


def test_the_table_is_made_and_holds(topics: Topics, admin: Any, prefix: str) -> None:
    code, lines, _ = topics("check")
    assert code == 1
    assert len(lines) == len(TABLE)
    assert all(line.endswith("the topic is missing, not there") for line in lines)
    assert topics("create")[::2] == (0, "")
    assert topics("check") == (0, [f"{len(TABLE)} topics are as the table says"], "")
    described = {topic["name"]: topic for topic in admin.describe_topics([f"{prefix}new-prompts"])}
    assert len(described[f"{prefix}new-prompts"]["partitions"]) == 2


def test_stages_begin_at_the_start(topics: Topics, admin: Any, prefix: str) -> None:
    topics("create")
    for stage, read in STAGES.items():
        committed = admin.list_group_offsets({prefix + stage: None})[prefix + stage]
        assert {place.topic for place in committed} == {prefix + topic.name for topic in read} | {
            f"{prefix}{stage}-retry"
        }
        assert {offset.offset for offset in committed.values()} == {0}


def test_making_them_again_moves_nothing(topics: Topics, admin: Any, prefix: str) -> None:
    topics("create")
    group, place = f"{prefix}classify", TopicPartition(f"{prefix}new-prompts", 0)
    admin.alter_group_offsets(group, {place: OffsetAndMetadata(7, "", -1)})
    assert topics("create") == (0, [f"{len(TABLE)} topics are as the table says"], "")
    assert admin.list_group_offsets({group: None})[group][place].offset == 7


def test_what_differs_is_told_and_left(topics: Topics, admin: Any, prefix: str) -> None:
    grown = {"num_partitions": 3, "replication_factor": 1, "configs": {"retention.ms": "1000"}}
    admin.create_topics({f"{prefix}new-prompts": grown}, wait_for_metadata=True)
    code, lines, _ = topics("create")
    assert code == 1
    told = {line for line in lines if line.startswith(f"{prefix}new-prompts")}
    assert told == {
        f"{prefix}new-prompts: {prefix}classify begins at the start of 3 partitions",
        f"{prefix}new-prompts: partitions is 3, not 2",
        f"{prefix}new-prompts: retention.ms is 1000, not 1209600000",
        f"{prefix}new-prompts: max.message.bytes is 1048588, not 4194304",
        f"{prefix}new-prompts: message.timestamp.type is CreateTime, not LogAppendTime",
    }
    assert len(admin.describe_topics([f"{prefix}new-prompts"])[0]["partitions"]) == 3


def test_partitions_that_were_added_are_missed_no_more(topics: Topics, admin: Any, prefix: str) -> None:
    topics("create")
    admin.create_partitions({f"{prefix}new-prompts": 4})
    wanted = "partitions is 4, not 2"
    code, lines, _ = topics("check")
    assert code == 1
    assert lines == [
        f"{prefix}new-prompts: {wanted}",
        f"{prefix}new-prompts: the offset of {prefix}classify on 2, 3 is missing, not committed",
    ]
    assert topics("create")[1][-1] == f"{prefix}new-prompts: {wanted}"


def test_a_group_that_was_forgotten_does_not_do_all_again(
    topics: Topics, kafka: KafkaBroker, admin: Any, prefix: str
) -> None:
    """Brokers forget the offsets of a group that is away for a week: from the start its work would be doubled."""
    topics("create")
    producer = KafkaProducer(bootstrap_servers=kafka.address)
    producer.send(f"{prefix}new-prompts", b"{}", partition=1).get(timeout=30)
    producer.close()
    place = TopicPartition(f"{prefix}new-prompts", 1)
    admin.alter_group_offsets(f"{prefix}classify", {place: OffsetAndMetadata(1, "", -1)})
    admin.delete_groups([f"{prefix}classify"])
    code, lines, _ = topics("create")
    assert code == 1
    told = [line for line in lines if "--from-start classify" in line]
    assert told == [
        f"{prefix}new-prompts: there are records and {prefix}classify has no offset: it never began, or was away for "
        "so long that the brokers forgot it; --from-start classify lets it handle all of them, those that it handled "
        "before as well"
    ]
    assert f"{prefix}new-prompts: the offset of {prefix}classify on 0, 1 is missing, not committed" in lines
    # Its retry topic is empty, so that nothing is done again from its start.
    assert f"{prefix}classify-retry: {prefix}classify begins at the start of 6 partitions" in lines
    assert topics("create", "--from-start", "classify")[0] == 0
    assert admin.list_group_offsets({f"{prefix}classify": None})[f"{prefix}classify"][place].offset == 0
    with pytest.raises(SystemExit):
        topics("create", "--from-start", "nothing")


def test_a_group_at_work_is_not_written_over(topics: Topics, kafka: KafkaBroker, admin: Any, prefix: str) -> None:
    """Its offsets are its members' own: the broker refuses, and that is told."""
    admin.create_topics(
        {f"{prefix}new-prompts": {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True
    )
    member = KafkaConsumer(
        f"{prefix}new-prompts", bootstrap_servers=kafka.address, group_id=f"{prefix}classify", enable_auto_commit=False
    )
    try:
        until_s = time.monotonic() + 60
        while not member.assignment():  # by long polls: the client forgets a join that a short one leaves unfinished
            assert time.monotonic() < until_s, "the member never joined"
            member.poll(timeout_ms=10_000)
        code, lines, complaint = topics("create")
    finally:
        member.close()
    assert (code, "UnknownMemberIdError" in complaint) == (3, True), (lines, complaint)


def test_brokers_that_do_not_answer() -> None:
    """In a process of its own: kafka-python leaves sockets behind that were refused."""
    command = [sys.executable, "-m", "themis_pipeline", "topics", "check", "--kafka.bootstrap_timeout_s", "1"]
    done = subprocess.run(
        [*command, "--kafka.bootstrap_servers", "127.0.0.1:1"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("themis-pipeline: the brokers: ")


def test_settings_that_are_wrong(topics: Topics) -> None:
    assert topics("check", "--topics.replication", "0")[0] == 2
    assert topics("check", '--topics.partitions={"nothing": 1}')[0] == 2
    with pytest.raises(SystemExit) as ended:
        topics("check", "--kafka.sasl.password", "hush")
    assert ended.value.code == 2
