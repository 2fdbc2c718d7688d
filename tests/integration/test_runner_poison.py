"""Records that nothing can be made of: each ends in the dead letters as it was, and holds nobody up."""

from __future__ import annotations

from collections import Counter

import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]

from tests.integration.runner_world import POLICY, Topics, assert_accounted, running, values
from themis_pipeline.local.broker import KafkaBroker

NOT_TEXT = [bytes([128 + index]) * (index + 1) for index in range(5)] + [b"\x00", b"\xff\xfe", b"{", b"always"]


@pytest.fixture
def topics(kafka: KafkaBroker) -> Topics:
    made = Topics(kafka.address)
    made.create()
    return made


async def test_poison_is_buried_as_it_was(topics: Topics) -> None:
    poison = [value for value in NOT_TEXT if value not in (b"\x00", b"{")]
    written = topics.write([*values("ok", 100), *poison, *[value + b"#b" for value in values("ok", 100)]])
    async with running(topics) as one:
        await one.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written, poison)
    assert one.stage.calls.total() == 200 + POLICY.max_attempts  # what isn't text never reaches the counter


async def test_an_empty_value_and_none(topics: Topics) -> None:
    """A tombstone has nothing that could be handled."""
    good = topics.write(values("ok", 10))
    producer = KafkaProducer(bootstrap_servers=topics.address)
    producer.send(topics.source, None, key=b"gone").get(timeout=30)
    producer.close()
    async with running(topics) as one:
        await one.until_read(lambda: topics.lag() == 0)
    letters = topics.read(topics.dead)
    assert [(letter.key, letter.value, letter.headers["error"]) for letter in letters] == [(b"gone", b"", b"NullValue")]
    assert Counter(one.key.decode().partition("/")[0] for one in topics.read(topics.out)) == Counter(
        value.decode() for value in good
    )


async def test_strangers_on_the_retry_topic(topics: Topics) -> None:
    producer = KafkaProducer(bootstrap_servers=topics.address)
    for headers in ([], [("themis-failures", b"\xff")], [("themis-origin", b"a/b/c")]):
        producer.send(topics.retry, b"ok#stranger", key=b"k", headers=headers).get(timeout=30)
    producer.close()
    async with running(topics) as one:
        await one.until_read(lambda: topics.lag() == 0)
    assert {letter.headers["error"] for letter in topics.read(topics.dead)} == {b"ForeignRetry"}
    assert len(topics.read(topics.dead)) == 3
    assert not topics.read(topics.out)
    assert not one.stage.calls


async def test_what_is_too_large_for_the_stage(topics: Topics) -> None:
    oversize = values("oversize", 3)
    written = topics.write([*values("ok", 50), *oversize])
    async with running(topics) as one:
        await one.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written, oversize)
    assert {letter.headers["reason"] for letter in topics.read(topics.dead)} == {b"oversize"}
    assert one.stage.calls.total() == 53


async def test_what_the_retry_topic_cannot_take(topics: Topics) -> None:
    """It has no room for a record and the runner's headers: there is no second try."""
    heavy = [b"always" + b"#" * 900]
    written = topics.write([*values("ok", 10), *heavy])
    async with running(topics, limits_bytes={topics.retry: 1_000}) as one:
        await one.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written, heavy)
    assert [letter.headers["reason"] for letter in topics.read(topics.dead)] == [b"oversize"]


async def test_an_output_larger_than_its_topic_takes(topics: Topics) -> None:
    large = values("larger:50000", 3)
    written = topics.write([*values("ok", 50), *large, *values("larger:500", 5)])
    async with running(topics, limits_bytes={topics.out: 20_000}) as one:
        await one.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written, large)
    assert one.count("themis_pipeline_transactions_total", result="failed") == 0
    assert one.stage.calls.total() == 58


async def test_an_output_that_only_the_broker_finds_too_large(kafka: KafkaBroker) -> None:
    """Its topic was given another limit than the runner was told."""
    topics = Topics(kafka.address)
    topics.create(out=400_000)
    large = values("larger:500000", 3)
    written = topics.write([*values("ok", 50), *large, *values("larger:500", 5)])
    async with running(topics) as one:
        await one.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written, large)
    assert {letter.headers["reason"] for letter in topics.read(topics.dead)} == {b"output_too_large"}
    assert one.stage.calls.total() == 58


async def test_an_output_too_large_that_was_sent_with_others(kafka: KafkaBroker) -> None:
    """The client library never says what became of any of them: they are sent alone after that."""
    topics = Topics(kafka.address)
    topics.create(out=20_000)
    large = values("larger:50000", 1)
    written = topics.write([*values("ok", 30), *large, *values("larger:500", 5)])
    async with running(topics) as one:
        await one.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written, large)
    assert one.stage.calls.total() == 36


async def test_an_output_larger_than_anything_that_is_sent(topics: Topics) -> None:
    large = values("larger:20000000", 1)
    written = topics.write([*values("ok", 20), *large])
    async with running(topics, limits_bytes={topics.out: 10**9}) as one:
        await one.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written, large)
