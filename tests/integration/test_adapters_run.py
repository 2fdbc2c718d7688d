"""The processes of one run use one judge version, whatever is promoted while they start."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.adapters_judge import LetterJudge
from tests.integration.sidecar_fakes import VERSION, serving
from tests.integration.versions_fleet import open_store, publish, replica, state
from themis_client import Item
from themis_client.adapters import Reward, Rewarder, RewardSettings, Sample
from themis_client.adapters.run_version import version_of_run
from themis_client.client import Client
from themis_client.errors import ThemisError
from themis_proto.v1 import versions_pb2 as vpb

SAMPLE = Sample(Item("Why is the sky blue?", "Scattering.", scenario="math"))


async def version_of(rewarder: Rewarder) -> str:
    [outcome] = await rewarder.outcomes_async([SAMPLE])
    assert isinstance(outcome, Reward), outcome
    return outcome.versions["judge"]


async def test_a_run_keeps_its_version_in_every_process(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first, second))
    async with replica(tmp_path / "store") as one:
        await one.ready()
        settings = RewardSettings(target=one.address, run="grpo-7", timeout_s=60.0)
        rewarder = Rewarder(settings)
        assert await version_of(rewarder) == first
        assert (await one.versions.Promote(vpb.PromoteRequest(version=second, wait_s=30))).reached
        latecomer = Rewarder(settings)  # another process of the run would make its own
        assert await version_of(latecomer) == first
        assert await version_of(pickle.loads(pickle.dumps(rewarder))) == first
        assert await version_of(Rewarder(RewardSettings(target=one.address, run="other"))) == second
        held = {
            (version.id, lease.holder)
            for version in (await one.versions.List(vpb.ListRequest())).versions
            for lease in version.leases
        }
        assert held == {(first, "grpo-7"), (second, "other")}


async def test_processes_that_start_amid_promotions_agree(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    ids = [publish(store, tiny_model("llama", seed)).id for seed in (1, 2)]
    store.propose(state(1, *ids))
    async with replica(tmp_path / "store") as one:
        await one.ready()

        def joined(run: str) -> str:
            with Client(one.address) as client:
                return version_of_run(client, run, 60.0).version

        for turn in range(4):
            promoting = asyncio.ensure_future(
                one.versions.Promote(vpb.PromoteRequest(version=ids[(turn + 1) % 2], wait_s=30))
            )
            found = await asyncio.gather(*(asyncio.to_thread(joined, f"run-{turn}") for _ in range(5)))
            await promoting
            assert len(set(found)) == 1


async def test_without_a_store_there_is_one_version() -> None:
    async with serving(LetterJudge()) as served:
        assert await version_of(Rewarder(RewardSettings(target=served.address, run="grpo-7"))) == VERSION


async def test_members_of_a_group_meet_on_one_replica_from_whatever_rank_they_come() -> None:
    judges = [LetterJudge(), LetterJudge()]
    async with serving(judges[0]) as one, serving(judges[1]) as other:
        ranks = [Rewarder(RewardSettings(target=f"{one.address},{other.address}")) for _ in range(2)]
        for question in map(str, range(24)):
            for rank, text in enumerate("abcd"):
                await ranks[rank % 2].outcomes_async([Sample(Item(question, text, scenario="math"))])
    asked = [[item.messages[0].parts[0].text for item in judge.items] for judge in judges]  # type: ignore[union-attr]
    assert sorted(asked[0] + asked[1]) == sorted(4 * [str(number) for number in range(24)])
    assert not set(asked[0]) & set(asked[1])  # a prompt is computed once, on the replica of its members
    assert all(asked)


async def test_many_first_calls_decide_on_a_version_once() -> None:
    async with serving(LetterJudge()) as served:
        rewarder = Rewarder(RewardSettings(target=served.address))
        await asyncio.gather(*(version_of(rewarder) for _ in range(16)))
    described = [line for line in served.lines("call") if line["method"] == "Describe"]
    assert len(described) == 2  # by whoever decides, and by the client that then works


async def test_a_run_that_holds_two_versions_is_told(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    ids = [publish(store, tiny_model("llama", seed)).id for seed in (1, 2)]
    store.propose(state(1, *ids))
    async with replica(tmp_path / "store") as one:
        await one.ready()
        for version in ids:
            await one.versions.Hold(vpb.HoldRequest(version=version, holder="torn", ttl_s=60))

        def joined() -> None:
            with Client(one.address) as client:
                version_of_run(client, "torn", 0.5)

        with pytest.raises(ThemisError, match=r"run 'torn' did not agree on a judge version within 0\.5 s"):
            await asyncio.to_thread(joined)
