"""Replicas as processes: one that is killed amid a promotion, and the command line that people use."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from tests.integration.sidecar_fakes import FakeJudge, serving
from tests.integration.versions_fleet import (
    ROOT,
    WITHIN_S,
    call,
    open_store,
    publish,
    refused,
    replica_process,
    state,
    until,
    versions_in,
)
from themis_proto.v1 import judge_pb2_grpc, versions_pb2_grpc
from themis_proto.v1 import versions_pb2 as vpb


async def themis(*arguments: str, code: int = 0) -> str:
    """What the command says, on either of its outputs."""
    command = [sys.executable, "-m", "themis_client.cli", *arguments]
    started = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(started.communicate(), WITHIN_S)
    assert started.returncode == code, output.decode()
    return output.decode()


async def current_of(address: str) -> set[str]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = judge_pb2_grpc.JudgeServiceStub(channel)
        return versions_in((await stub.Score(call(2))).results)


async def test_from_a_folder_to_a_promotion_by_command_line(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    root = str(tmp_path / "store")
    own = ("--store", root, "--base-model", "random", "--label-mass-threshold", "0")
    health = tmp_path / "health.jsonl"
    health.write_text(
        '{"messages": "Two and two?", "response": "Four.", "scenario": "math", "min_rating": 1, "max_rating": 5}\n'
    )
    first = (
        await themis("versions", "publish", str(tiny_model("llama", 1)), "--name", "a", *own, "--health", str(health))
    ).strip()
    second = (await themis("versions", "publish", str(tiny_model("llama", 2)), "--name", "b", *own)).strip()
    assert first.startswith("a-")
    assert "Draft" not in await themis("versions", "publish", str(tmp_path), "--name", "c", *own, code=2)
    async with replica_process(Path(root), "one") as one:
        address = (await one.event("loading"))["address"]
        server = ("-s", address)
        assert "no version was promoted yet" in await themis("versions", "list", *server)
        await themis("versions", "promote", first, "--wait", "0", *server, code=1)  # said, and not yet followed
        assert (await one.event("serving"))["version"] == first
        assert await current_of(address) == {first}
        lease = (await themis("versions", "hold", first, "--holder", "run 9", *server)).split()[0]
        promoted = await themis("versions", "promote", second, "--why", "it is better", "--by", "me", *server)
        assert f"current {second}, by me: it is better" in promoted
        assert "leases" in await themis("versions", "retire", first, *server, code=2)
        await themis("versions", "release", lease, *server)
        await themis("versions", "retire", first, *server)
        listed = await themis("versions", "list", *server)
        assert f"{second} (current)" in listed
        assert f"retired {first}" in listed
        assert not any(line.startswith(first) for line in listed.splitlines())
        assert await current_of(address) == {second}


async def test_a_replica_that_is_killed_amid_a_promotion_converges(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    root = tmp_path / "store"
    store = open_store(root)
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    async with replica_process(root, "one") as one, replica_process(root, "two") as two:
        addresses = [(await server.event("serving"))["address"] for server in (one, two)]
        async with grpc.aio.insecure_channel(addresses[0]) as channel:
            stub: Any = versions_pb2_grpc.VersionServiceStub(channel)
            await stub.Promote(vpb.PromoteRequest(version=second))

            async def begun() -> bool:
                listed = await stub.List(vpb.ListRequest())
                reported = {one.replica: {held.version for held in one.residents} for one in listed.fleet.replicas}
                return second in reported["two"]

            await until(begun)
            await two.kill()
            async with replica_process(root, "two") as again:
                address = (await again.event("serving"))["address"]
                assert await current_of(address) == {second}

                async def both() -> bool:
                    listed = await stub.List(vpb.ListRequest())
                    found = {one.replica: (one.applied, one.current) for one in listed.fleet.replicas}
                    return bool(found == {"one": (2, second), "two": (2, second)})

                await until(both)
                assert await current_of(addresses[0]) == {second}


async def test_a_server_without_a_store_says_what_it_holds_and_how_to_have_one() -> None:
    async with serving(FakeJudge()) as server:
        stub: Any = versions_pb2_grpc.VersionServiceStub(server.channel)
        listed = await stub.List(vpb.ListRequest())
        assert listed.answering.current == server.judge.version.id
        [only] = listed.answering.residents
        assert (only.version, only.status) == (server.judge.version.id, vpb.RESIDENT_STATUS_READY)
        assert not listed.store_problem
        for calling in (
            stub.Promote(vpb.PromoteRequest(version="x")),
            stub.Load(vpb.LoadRequest(version="x")),
            stub.Retire(vpb.RetireRequest(version="x")),
            stub.Hold(vpb.HoldRequest(version="x", holder="y", ttl_s=1)),
            stub.Release(vpb.ReleaseRequest(lease_id="x")),
        ):
            error = await refused(calling)
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "store.url" in (error.details() or "")
