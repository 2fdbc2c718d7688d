"""A version on trial beside live traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.integration.versions_fleet import Replica, call, open_store, publish, replica, state, until, versions_in
from themis_proto.v1 import versions_pb2 as vpb

ITEMS = 40


async def shadowing(one: Replica, version: str, share: float) -> None:
    answer = await one.versions.Load(vpb.LoadRequest(version=version, shadow_share=share, wait_s=60))
    assert answer.reached


async def agreement(one: Replica) -> vpb.Agreement:
    return (await one.versions.List(vpb.ListRequest())).answering.shadow


async def test_a_shadow_scores_its_share_and_answers_nobody(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    async with replica(tmp_path / "store", shadow_waiting=1000, shadow_load_share=1.0) as one:
        await one.ready()
        await shadowing(one, second, 1.0)
        live = (await one.judge.Score(call(ITEMS))).results
        assert versions_in(live) == {first}

        async def all_compared() -> bool:
            return (await agreement(one)).compared == ITEMS

        await until(all_compared)
        found = await agreement(one)
        theirs = (await one.judge.Score(call(ITEMS, second))).results
        differences = [
            abs(a.verdict.expected_rating - b.verdict.expected_rating) for a, b in zip(live, theirs, strict=True)
        ]
        same = [a.verdict.rating == b.verdict.rating for a, b in zip(live, theirs, strict=True)]
        assert found.version == second
        assert abs(found.mean_absolute_difference - sum(differences) / ITEMS) < 1e-6
        assert found.same_rating_share == sum(same) / ITEMS
        assert sum(differences) > 0
        assert (found.dropped, found.failed) == (0, 0)
        assert (await agreement(one)).compared == ITEMS  # whoever asks for the shadow itself is not compared

        async def reported() -> bool:
            listed = await one.versions.List(vpb.ListRequest())
            return any(found.shadow.compared == ITEMS for found in listed.fleet.replicas)

        await until(reported)


async def test_the_share_is_the_same_items_every_time(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    counts = []
    async with replica(tmp_path / "store", shadow_waiting=1000, shadow_load_share=1.0) as one:
        await one.ready()
        for _ in range(2):
            await shadowing(one, second, 0.3)
            await one.judge.Score(call(ITEMS))
            await until(lambda: _none_waits(one))
            found = await agreement(one)
            counts.append(found.compared)
            assert (found.dropped, found.failed) == (0, 0)
            stopped = await one.versions.Load(vpb.LoadRequest(stop_shadow=True, wait_s=60))
            assert stopped.reached
            assert list(stopped.fleet.desired.resident) == [first]
    assert counts[0] == counts[1]
    assert 0 < counts[0] < ITEMS


async def _none_waits(one: Replica) -> bool:
    shadow = one.parts.judging.shadow
    return shadow.waiting == 0 and not shadow.working


async def test_a_shadow_is_dropped_first(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    """With no room beside live work, and with a queue of two: what it doesn't get is counted."""
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    async with replica(tmp_path / "store", "one", shadow_load_share=0.0) as one:
        await one.ready()
        await shadowing(one, second, 1.0)
        versions_in((await one.judge.Score(call(ITEMS))).results)
        found = await agreement(one)
        assert found.dropped == ITEMS
        assert found.compared == 0
        assert not found.HasField("same_rating_share")
    async with replica(tmp_path / "store", "two", shadow_load_share=1.0, shadow_waiting=2) as two:
        await two.ready()
        versions_in((await two.judge.Score(call(ITEMS))).results)
        await until(lambda: _none_waits(two))
        found = await agreement(two)
        assert found.dropped > 0
        assert found.compared + found.dropped + found.failed == ITEMS


async def test_promoting_the_shadow_ends_the_trial(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    async with replica(tmp_path / "store") as one:
        await one.ready()
        await shadowing(one, second, 0.5)
        promoted = await one.versions.Promote(vpb.PromoteRequest(version=second, wait_s=60))
        assert promoted.reached
        assert not promoted.fleet.desired.HasField("shadow")
        assert one.parts.judging.shadow.agreement is None
        await asyncio.gather(*(one.judge.Score(call(1)) for _ in range(3)))
