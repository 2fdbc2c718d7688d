"""What goes wrong with versions: bad candidates, a store that goes away, replicas that disagree."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.versions_fleet import (
    Replica,
    call,
    health,
    open_store,
    publish,
    refused,
    replica,
    standing,
    state,
    taking_turns,
    until,
    versions_in,
)
from themis_judge.store import JudgeStore, ReplicaReport, SystemClock, written
from themis_judge.store.codec import encode
from themis_judge.store.manifests import sealed
from themis_proto.v1 import versions_pb2 as vpb


@asynccontextmanager
async def two_replicas(root: Path, **versions: Any) -> AsyncIterator[tuple[Replica, Replica]]:
    build = taking_turns()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(replica(root, "one", build=build, **versions))
        two = await stack.enter_async_context(replica(root, "two", build=build, **versions))
        await one.ready()
        await two.ready()
        yield one, two


async def test_a_promotion_sent_to_one_replica_moves_both(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    async with two_replicas(tmp_path / "store") as (one, two):
        answer = await one.versions.Promote(vpb.PromoteRequest(version=second, by="ops", why="better", wait_s=60))
        assert answer.reached
        for server in (one, two):
            assert versions_in((await server.judge.Score(call(2))).results) == {second}
            assert versions_in((await server.judge.Score(call(2, first))).results) == {first}
            listed = await server.versions.List(vpb.ListRequest())
            assert (listed.fleet.desired.by, listed.fleet.desired.why) == ("ops", "better")
            assert [(found.replica, found.current) for found in listed.fleet.replicas] == [
                ("one", second),
                ("two", second),
            ]
            assert {one.status for one in listed.answering.residents} == {vpb.RESIDENT_STATUS_READY}


def flip_a_byte(store: JudgeStore, root: Path, model: Path) -> str:
    """Published well, and damaged later."""
    version = publish(store, model, "damaged").id
    weights = root / "versions" / version / "files/judge/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    return version


def other_shapes(store: JudgeStore, root: Path, model: Path) -> str:
    """Whole, but its configuration is another model's."""
    folder = root.parent / "other-shapes"
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 50}))
    return publish(store, folder, "shapes").id


def other_templates(store: JudgeStore, root: Path, model: Path) -> str:
    """As a release with other prompts would have published it."""
    known = publish(store, model, "templates")
    made = sealed(replace(known, template_digest="f" * 64))
    shutil.copytree(root / "versions" / known.id / "files", root / "versions" / made.id / "files")
    (root / "versions" / made.id / "manifest.json").write_bytes(encode(made))
    return made.id


def bad_health(store: JudgeStore, root: Path, model: Path) -> str:
    """Rates its health prompt elsewhere than it was published to."""
    return publish(store, model, "unwell", health_prompts=health(low=100)).id


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (flip_a_byte, "model.safetensors"),
        (other_shapes, "Error"),
        (other_templates, "template digest is ffffffffffff"),
        (bad_health, "health prompt 1 was rated"),
    ],
)
@pytest.mark.parametrize("max_resident", [1, 2])
async def test_a_bad_candidate_is_rolled_back_everywhere(
    make: Callable[[JudgeStore, Path, Path], str],
    reason: str,
    max_resident: int,
    tmp_path: Path,
    tiny_model: Callable[..., Path],
) -> None:
    root = tmp_path / "store"
    store = open_store(root)
    good = publish(store, tiny_model("llama", 1)).id
    bad = make(store, root, tiny_model("llama", 2))
    store.propose(state(1, good))
    async with two_replicas(root, max_resident=max_resident) as (one, two):
        asking = [asyncio.ensure_future(_ask_through(server, bad)) for server in (one, two)]
        answer = await one.versions.Promote(vpb.PromoteRequest(version=bad, wait_s=60))
        assert not answer.reached
        await until(lambda: _rolled_back(one, two, good))
        seen = [await asked for asked in asking]
        assert seen == [{good}, {good}]  # calls were answered all the while, and never by the bad one
        listed = await one.versions.List(vpb.ListRequest())
        assert listed.fleet.desired.current == good
        assert bad not in listed.fleet.desired.resident
        assert reason in listed.fleet.desired.why
        assert bad in listed.fleet.desired.why
        failed = [line for server in (one, two) for line in server.lines("version_failed")]
        assert failed
        assert all(line["version"] == bad and reason in line["reason"] for line in failed)
        statuses = {standing(await server.versions.List(vpb.ListRequest()), bad).status for server in (one, two)}
        assert vpb.RESIDENT_STATUS_FAILED in statuses


async def _ask_through(server: Replica, bad: str) -> set[str]:
    """Calls until the fleet has come back from `bad`."""
    seen: set[str] = set()
    went = False
    while True:
        seen |= versions_in((await server.judge.Score(call(2))).results)
        desired = (await server.versions.List(vpb.ListRequest())).fleet.desired
        went = went or desired.number > 1
        if went and desired.current != bad:
            return seen


async def _rolled_back(one: Replica, two: Replica, good: str) -> bool:
    listed = await one.versions.List(vpb.ListRequest())
    desired = listed.fleet.desired
    return desired.current == good and all(found.applied == desired.number for found in listed.fleet.replicas)


async def test_a_bad_resident_is_dropped_and_the_current_stays(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    good = publish(store, tiny_model("llama", 1)).id
    bad = bad_health(store, tmp_path / "store", tiny_model("llama", 2))
    store.propose(state(1, good))
    async with replica(tmp_path / "store") as one:
        await one.ready()
        await one.versions.Load(vpb.LoadRequest(version=bad, shadow_share=0.5, wait_s=60))
        await one.serving(good)
        desired = (await one.versions.List(vpb.ListRequest())).fleet.desired
        assert list(desired.resident) == [good]
        assert not desired.HasField("shadow")


async def test_a_replica_that_starts_does_not_roll_back_what_others_serve(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    """Its own software or disk is at fault then."""
    root = tmp_path / "store"
    store = open_store(root)
    old = publish(store, tiny_model("llama", 1)).id
    served = other_templates(store, root, tiny_model("llama", 2))  # as if `one` were the older release that made it
    store.propose(state(1, old))
    store.propose(state(2, served, previous=old))
    store.report(_report("one", served))
    async with replica(root, "two") as two:
        await until(lambda: _failed(two, served))
        listed = await two.versions.List(vpb.ListRequest())
        assert listed.fleet.desired.current == served
        assert "template digest" in listed.answering.problem
        error = await refused(two.judge.Score(call(1)))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        store.propose(state(3, old))  # somebody decides
        await two.ready()
        assert versions_in((await two.judge.Score(call(1))).results) == {old}


@pytest.mark.parametrize("needed_by", ["a lease", "another replica"])
async def test_a_replica_that_cannot_load_a_version_beside_the_current_one_does_not_take_it_from_others(
    needed_by: str, tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    root = tmp_path / "store"
    store = open_store(root)
    current = publish(store, tiny_model("llama", 1)).id
    beside = other_templates(store, root, tiny_model("llama", 2))
    store.propose(state(1, current, beside))
    if needed_by == "a lease":
        store.hold(beside, "run-17", 600.0)
    else:
        at = written(SystemClock().now())
        store.report(ReplicaReport("one", at, 1, current, {current: "ready", beside: "ready"}))
    async with replica(root, "two") as two:
        await two.ready()  # it serves what it can
        await until(lambda: _failed(two, beside))
        assert versions_in((await two.judge.Score(call(1))).results) == {current}
        assert (await refused(two.judge.Score(call(1, beside)))).code() is grpc.StatusCode.NOT_FOUND
        listed = await two.versions.List(vpb.ListRequest())
        assert beside in listed.fleet.desired.resident
        assert "template digest" in listed.answering.problem
        assert listed.answering.applied == 0


def _report(name: str, current: str) -> ReplicaReport:
    return ReplicaReport(name, written(SystemClock().now()), 2, current, {current: "ready"})


async def _failed(server: Replica, version: str) -> bool:
    return standing(await server.versions.List(vpb.ListRequest()), version).status == vpb.RESIDENT_STATUS_FAILED


async def test_the_first_version_that_fails_leaves_the_replica_waiting_for_another(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    store = open_store(tmp_path / "store")
    bad = bad_health(store, tmp_path / "store", tiny_model("llama", 2))
    good = publish(store, tiny_model("llama", 1)).id
    async with replica(tmp_path / "store") as one:
        empty = await one.versions.List(vpb.ListRequest())
        assert not empty.fleet.HasField("desired")
        await one.versions.Promote(vpb.PromoteRequest(version=bad))
        await until(lambda: _failed(one, bad))
        assert not one.loading.done()
        await one.versions.Promote(vpb.PromoteRequest(version=good))
        await one.ready()
        assert versions_in((await one.judge.Score(call(1))).results) == {good}


async def test_serving_goes_on_while_the_store_is_away(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    root, aside = tmp_path / "store", tmp_path / "aside"
    store = open_store(root)
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first, second))
    async with replica(root) as one:
        await one.ready()
        root.rename(aside)
        root.write_text("in the store's place")
        await until(lambda: _store_problem(one))
        for version in ("", first, second):
            assert versions_in((await one.judge.Score(call(2, version))).results) == {version or first}
        listed = await one.versions.List(vpb.ListRequest())
        assert listed.answering.current == first
        assert "the store's directory" in listed.answering.problem
        assert listed.store_problem == listed.answering.problem
        await refused(one.versions.Promote(vpb.PromoteRequest(version=second)))
        root.unlink()
        aside.rename(root)
        await until(lambda: _store_is_back(one))
        answer = await one.versions.Promote(vpb.PromoteRequest(version=second, wait_s=60))
        assert answer.reached
        assert len(one.lines("store_failed")) == 1


async def _store_problem(server: Replica) -> bool:
    listed = await server.versions.List(vpb.ListRequest())
    return bool(listed.answering.problem)


async def _store_is_back(server: Replica) -> bool:
    return not await _store_problem(server)


async def test_a_broken_version_is_listed_as_one(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    (tmp_path / "store/versions" / second / "manifest.json").write_text("{")
    async with replica(tmp_path / "store") as one:
        await one.ready()
        listed = await one.versions.List(vpb.ListRequest())
        assert [bool(version.problem) for version in sorted(listed.versions, key=lambda one: one.id != first)] == [
            False,
            True,
        ]
        error = await refused(one.versions.Promote(vpb.PromoteRequest(version=second)))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_what_is_asked_for_wrongly(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first = publish(store, tiny_model("llama", 1)).id
    store.propose(state(1, first))
    async with replica(tmp_path / "store") as one:
        await one.ready()
        stub, invalid = one.versions, grpc.StatusCode.INVALID_ARGUMENT
        failed, unknown = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND
        for calling, code in (
            (stub.Promote(vpb.PromoteRequest()), invalid),
            (stub.Promote(vpb.PromoteRequest(version="nothing-0123456789ab")), unknown),
            (stub.Promote(vpb.PromoteRequest(version=first, wait_s=-1)), invalid),
            (stub.Promote(vpb.PromoteRequest(version=first, by="x" * 501)), invalid),
            (stub.Load(vpb.LoadRequest(version=first, shadow_share=1.5)), invalid),
            (stub.Load(vpb.LoadRequest(version=first, shadow_share=0.5)), failed),
            (stub.Load(vpb.LoadRequest(version=first, stop_shadow=True)), invalid),
            (stub.Load(vpb.LoadRequest(stop_shadow=True)), failed),
            (stub.Retire(vpb.RetireRequest(version=first)), failed),
            (stub.Hold(vpb.HoldRequest(version=first, holder="x", ttl_s=0)), invalid),
            (stub.Hold(vpb.HoldRequest(version=first, ttl_s=5)), invalid),
            (stub.Hold(vpb.HoldRequest(version="nothing-0123456789ab", holder="x", ttl_s=5)), unknown),
            (stub.Release(vpb.ReleaseRequest()), invalid),
        ):
            assert (await refused(calling)).code() is code
        expected = vpb.PromoteRequest(version=publish(store, tiny_model("llama", 2)).id, expected_current="other")
        assert (await refused(stub.Promote(expected))).code() is failed
        assert store.desired() == state(1, first)
