"""The runner on a real broker: every record exactly once in what is committed, whatever its stage says of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.runner_world import (
    DEADLINE_S,
    PARTITIONS,
    Topics,
    assert_accounted,
    first_outputs,
    keys,
    running,
    smaller,
    values,
)
from themis_pipeline.kafka.seam import TransportError
from themis_pipeline.local.broker import KafkaBroker


@pytest.fixture
def topics(kafka: KafkaBroker) -> Topics:
    made = Topics(kafka.address)
    made.create()
    return made


async def test_each_record_comes_out_once(topics: Topics) -> None:
    written = topics.write(values("ok", 300))
    async with running(topics) as one:
        await one.committed(300)
    assert_accounted(topics, written)
    assert sum(one.stage.calls.values()) == 300
    assert one.count("themis_pipeline_outcomes_total", outcome="done") == 300


async def test_no_lag_is_left(topics: Topics) -> None:
    """Also of the retry topic, which ends in the marker of a transaction."""
    topics.write([*values("ok", 20), *values("fail:1", 5), *values("none", 5), *values("two", 5)])
    async with running(topics) as one:
        await one.committed(40)
        await one.until_read(lambda: topics.lag() == 0)
    assert len(topics.read(topics.out)) == 20 + 5 + 10
    assert topics.lag() == 0


async def test_failures_are_tried_again_and_then_buried(topics: Topics) -> None:
    good, recovering, postponed = values("ok", 30), values("fail:2", 4), values("later", 4)
    lost = [*values("always", 3), *values("reject", 3), *values("large", 2)]
    topics.write([*good, *recovering, *postponed, *lost])
    async with running(topics) as one:
        await one.until_read(lambda: topics.lag() == 0 and len(topics.read(topics.dead)) == len(lost))
    assert keys(topics.read(topics.out)) == first_outputs([*good, *recovering, *postponed])
    buried = {letter.value: letter.headers for letter in topics.read(topics.dead)}
    assert sorted(buried) == sorted(lost)
    said = {value: (told["reason"], told["error"], told["attempts"]) for value, told in buried.items()}
    assert {said[value] for value in values("always", 3)} == {(b"exhausted", b"ValueError", b"3")}
    assert {said[value] for value in values("reject", 3)} == {(b"rejected", b"TOLD", b"1")}
    assert {said[value] for value in values("large", 2)} == {(b"output_too_large", b"OutputTooLarge", b"1")}
    for told in buried.values():
        assert told["origin"].startswith(topics.source.encode() + b"/")
        assert told["theirs"] == repr((("trace", b"\x00\xff"),)).encode()


async def test_a_record_that_was_tried_again_keeps_its_first_place(topics: Topics) -> None:
    topics.write([*values("ok", 10), *values("fail:2", 10)])
    async with running(topics) as one:
        await one.until_read(lambda: len(topics.read(topics.out)) == 20)
    places = {out.headers["place"] for out in topics.read(topics.out)}
    assert len(places) == 20
    assert all(place.startswith(topics.source.encode() + b"/") for place in places)


async def test_a_slow_record_does_not_stop_the_others(topics: Topics) -> None:
    written = topics.write([b"slow:2#0", *values("ok", 60)])
    async with running(topics, limits=smaller(64)) as one:
        await one.until(lambda: sum(one.stage.calls.values()) == 61)
        assert one.count("themis_pipeline_outcomes_total", outcome="done") >= 1
        await one.committed(61)
    assert_accounted(topics, written)


async def test_no_more_is_in_hand_than_the_windows_hold(topics: Topics) -> None:
    topics.write(values("ok", 400))
    async with running(topics, limits=smaller(8)) as one:
        one.stage.gate = asyncio.Event()
        await one.until(lambda: sum(one.stage.calls.values()) == 8 * PARTITIONS)
        for _ in range(20):  # further polls bring nothing
            await asyncio.sleep(0.02)
        assert sum(one.stage.calls.values()) == 8 * PARTITIONS
        one.stage.gate.set()
        await one.committed(400)
    assert len(topics.read(topics.out)) == 400


async def test_what_is_in_hand_is_finished_at_the_end(topics: Topics) -> None:
    topics.write(values("slow:0.5", 8))
    async with running(topics) as one:
        await one.until(lambda: sum(one.stage.calls.values()) == 8)
    assert len(topics.read(topics.out)) == 8
    assert topics.lag() == 0


async def test_without_first_offsets_nothing_is_skipped_silently(topics: Topics) -> None:
    stranger = Topics(topics.address)
    with pytest.raises(TransportError, match="NoOffsetForPartition"):
        async with running(topics, group=stranger.group) as one:
            await asyncio.wait({one.task}, timeout=DEADLINE_S)


async def test_without_a_topic_nothing_is_waited_for(kafka: KafkaBroker) -> None:
    topics = Topics(kafka.address)
    with pytest.raises(TransportError, match=f"no topic is called {topics.source}, {topics.retry}; .*topics create"):
        async with running(topics) as one:
            await asyncio.wait({one.task}, timeout=DEADLINE_S)
