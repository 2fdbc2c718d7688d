"""Promotions under load: nothing is lost, nothing is mixed, and who pinned a version keeps it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.versions_fleet import (
    Replica,
    call,
    open_store,
    publish,
    refused,
    replica,
    state,
    until,
    versions_in,
)
from themis_client import AsyncClient, Item, LeasePolicy, Score, ScoreOptions
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import versions_pb2 as vpb
from themis_sidecar.config import TransformersConfig

PROMOTIONS = 10


class Load:
    """Callers that go on until they are told to stop; every call's versions are kept."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.unpinned: list[set[str]] = []
        self.pinned: Counter[str] = Counter()

    async def goes_on(self) -> None:
        """Returns when some more calls were answered."""
        before = len(self.unpinned)

        async def more() -> bool:
            return len(self.unpinned) > before + 3

        await until(more)

    async def ask(self, one: Replica, name: int) -> None:
        turn = 0
        while not self.ended.is_set():
            answer = await one.judge.Score(call(3, tag=f"{name}.{turn}"))
            self.unpinned.append(versions_in(answer.results))
            turn += 1

    async def ask_pinned(self, one: Replica, version: str) -> None:
        while not self.ended.is_set():
            answer = await one.judge.Score(call(2, version))
            assert versions_in(answer.results) == {version}
            self.pinned[version] += 1

    async def stream(self, one: Replica) -> None:
        """A run as trainers have it: a client that pins what is current at its first call."""
        async with AsyncClient(one.address) as client:
            while not self.ended.is_set():
                items = [Item(f"Question {index}?", "Yes.", scenario="math") for index in range(5)]
                found = [result async for _, result in client.stream(items)]
                assert all(isinstance(result, Score) for result in found)
                assert {result.version for result in found} == {client.version}
                assert client.version is not None
                self.pinned[client.version] += 1


async def test_promotions_lose_nothing_and_mix_nothing(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    ids = [publish(store, tiny_model("llama", seed)).id for seed in (1, 2)]
    store.propose(state(1, ids[0], ids[1]))
    async with replica(tmp_path / "store") as one:
        await one.ready()
        load = Load()
        async with asyncio.TaskGroup() as callers:
            for name in range(3):
                callers.create_task(load.ask(one, name))
            for version in ids:
                callers.create_task(load.ask_pinned(one, version))
            callers.create_task(load.stream(one))
            for turn in range(1, PROMOTIONS + 1):
                answer = await one.versions.Promote(vpb.PromoteRequest(version=ids[turn % 2], wait_s=30))
                assert answer.reached
                await load.goes_on()
            load.ended.set()
        assert all(len(versions) == 1 for versions in load.unpinned)
        assert {version for versions in load.unpinned for version in versions} == set(ids)
        assert set(load.pinned) == set(ids)
        promoted = [line["version"] for line in one.lines("version_promoted")]
        assert promoted == [ids[turn % 2] for turn in range(PROMOTIONS + 1)]


async def test_scores_do_not_change_while_another_version_loads(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    """Libraries change the default number type of the whole process while they load weights of another."""
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama_untied", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    async with replica(tmp_path / "store", engine=TransformersConfig(dtype="bfloat16", threads=1)) as one:
        await one.ready()
        wanted = _ratings(await one.judge.Score(call(4, first)))
        await one.versions.Load(vpb.LoadRequest(version=second))
        rounds = 0
        while not (await one.versions.Load(vpb.LoadRequest(version=second))).reached:
            assert _ratings(await one.judge.Score(call(4, first))) == wanted
            rounds += 1
        assert rounds
        assert _ratings(await one.judge.Score(call(4, second))) != wanted


def _ratings(answer: pb.ScoreResponse) -> list[float]:
    versions_in(answer.results)
    return [result.verdict.expected_rating for result in answer.results]


async def test_one_set_of_weights_drains_swaps_and_resumes(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    async with replica(tmp_path / "store", max_resident=1) as one:
        await one.ready()
        load = Load()
        held: list[int] = []
        async with asyncio.TaskGroup() as callers:
            for name in range(4):
                callers.create_task(load.ask(one, name))
            watcher = callers.create_task(_watch_held(one, held))
            for turn in range(1, 5):
                await one.versions.Promote(vpb.PromoteRequest(version=(first, second)[turn % 2], wait_s=60))
                await load.goes_on()
            load.ended.set()
            watcher.cancel()
        assert all(len(versions) == 1 for versions in load.unpinned)
        assert {version for versions in load.unpinned for version in versions} == {first, second}
        assert max(held) > 0  # calls were held, and their number was told
        assert len(one.parts.judging.residents.all) == 1
        gone = await refused(one.judge.Score(call(1, second)))
        assert gone.code() is grpc.StatusCode.NOT_FOUND
        assert first in (gone.details() or "")


async def _watch_held(one: Replica, seen: list[int]) -> None:
    while True:
        seen.append((await one.versions.List(vpb.ListRequest())).answering.held_calls)
        await asyncio.sleep(0.005)


async def test_streams_wind_down_for_a_swap_and_their_callers_come_back(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    async with replica(tmp_path / "store", max_resident=1) as one:
        await one.ready()
        call_ = one.judge.StreamScores()
        await call_.write(pb.StreamScoresRequest(options=pb.ScoreOptions()))
        opened = await call_.read()
        assert isinstance(opened, pb.StreamScoresResponse)
        assert opened.opened.version == first
        answer = await one.versions.Promote(vpb.PromoteRequest(version=second, wait_s=60))
        assert answer.reached  # though the stream was open
        ended = await refused(_last(call_))
        assert ended.code() is grpc.StatusCode.UNAVAILABLE
        assert "exchanges its judge" in (ended.details() or "")


async def _last(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass
    assert await stream.code() is grpc.StatusCode.OK


async def test_held_calls_are_bounded_and_end_with_their_time(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    store.propose(state(1, publish(store, tiny_model("llama", 1)).id))
    async with replica(tmp_path / "store", limits={"max_queue_tokens": 100}, max_resident=1) as one:
        await one.ready()
        one.parts.judging.residents.pause()
        late = await refused(one.judge.Score(call(1), timeout=0.2))
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        held = asyncio.ensure_future(one.judge.Score(call(3)))
        await until(lambda: _held(one, 1))
        full = await refused(one.judge.Score(call(3)))
        assert full.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        one.parts.judging.residents.resume()
        versions_in((await held).results)


async def _held(one: Replica, count: int) -> bool:
    return one.parts.judging.holding.calls == count


async def test_a_lease_keeps_a_version_and_a_client_renews_it(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    async with replica(tmp_path / "store", max_resident=1) as one:
        await one.ready()
        async with AsyncClient(one.address, lease=LeasePolicy("run 7", ttl_s=1.0)) as run:
            (score,) = await run.score([Item("Question?", "Yes.", scenario="math")])
            assert score.version == first
            assert run.lease is not None
            ends_at = run.lease.lease.expires_at
            await until(lambda: _renewed(run, ends_at))
            assert run.lease.lost is None
            for calling in (
                one.versions.Promote(vpb.PromoteRequest(version=second)),
                one.versions.Retire(vpb.RetireRequest(version=first)),
            ):
                error = await refused(calling)
                assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
            listed = await one.versions.List(vpb.ListRequest())
            holders = {lease.holder for version in listed.versions for lease in version.leases}
            assert holders == {"run 7"}
        # closed: the lease is given back
        promoted = await one.versions.Promote(vpb.PromoteRequest(version=second, wait_s=60))
        assert promoted.reached
        retired = await one.versions.Retire(vpb.RetireRequest(version=first, wait_s=60))
        assert retired.reached
        error = await refused(one.versions.Promote(vpb.PromoteRequest(version=first)))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def _renewed(run: AsyncClient, ends_at: object) -> bool:
    return run.lease is not None and run.lease.lease.expires_at != ends_at


async def test_a_forced_promotion_goes_over_leases(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    store.hold(first, "a run that is dead", 3600)
    async with replica(tmp_path / "store", max_resident=1) as one:
        await one.ready()
        forced = await one.versions.Promote(vpb.PromoteRequest(version=second, force=True, wait_s=60))
        assert forced.reached


@pytest.mark.parametrize("max_resident", [2, 3])
async def test_a_pin_outlives_promotions_where_there_is_room(
    max_resident: int, tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    store = open_store(tmp_path / "store")
    first, second, third = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2, 3))
    store.propose(state(1, first))
    async with replica(tmp_path / "store", max_resident=max_resident) as one:
        await one.ready()
        async with AsyncClient(one.address, lease=LeasePolicy("run 8")) as run:
            await run.score([Item("Question?", "Yes.", scenario="math")])
            for version in (second, third):
                answer = await one.versions.Promote(vpb.PromoteRequest(version=version, wait_s=60))
                assert answer.reached
                (score,) = await run.score([Item("Question?", "Yes.", scenario="math")])
                assert score.version == first
            (newest,) = await run.score(
                [Item("Question?", "Yes.", scenario="math")], options=ScoreOptions(version=third)
            )
            assert newest.version == third
