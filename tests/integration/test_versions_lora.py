"""Adapters beside the weights that they adapt, on an engine that offers it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import pytest

from tests.integration.versions_fleet import call, open_store, publish, refused, replica, state, until, versions_in
from themis_judge.engines.base import (
    NO_DEADLINE,
    Deadline,
    Engine,
    EngineInfo,
    Generation,
    Labels,
    LabelScores,
    Likelihood,
    Prompt,
    Sampling,
    Unsupported,
)
from themis_judge.store import JudgeStore
from themis_proto.v1 import versions_pb2 as vpb
from themis_sidecar.versions.assembly import BuildEngine


class Weights:
    """How many sets of weights and adapters are loaded, and the most there were."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        self.most = 0

    def load(self, name: str) -> None:
        self.loaded.add(name)
        self.most = max(self.most, sum("adapts" not in one for one in self.loaded))


class PlainEngine:
    """Says 3 to everything."""

    tokenizer = None
    failure = None
    rating = 3

    def __init__(self, name: str, weights: Weights) -> None:
        self.info = EngineInfo("plain", name, 4096)
        self._weights = weights

    async def load(self) -> None:
        self._weights.load(self.info.model)

    async def unload(self) -> None:
        self._weights.loaded.discard(self.info.model)

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        return LabelScores(tuple(math.log(0.9 if text == str(self.rating) else 0.02) for text in labels.texts))

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation:
        raise Unsupported("it writes nothing")

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], deadline: Deadline = NO_DEADLINE
    ) -> Likelihood:
        raise Unsupported("it tells none")


class AdaptedEngine(PlainEngine):
    """Says 5 to everything."""

    rating = 5


class AdaptableEngine(PlainEngine):
    def adapted(self, name: str, folder: Path, digest: str) -> Engine:
        assert (folder / "adapter_config.json").is_file()
        assert digest
        return AdaptedEngine(f"{name} adapts {self.info.model}", self._weights)


def building(kind: type[PlainEngine], weights: Weights) -> BuildEngine:
    return lambda config, stuck_after_s, observe: kind(config.model, weights)


@pytest.fixture
def store(tmp_path: Path) -> JudgeStore:
    return open_store(tmp_path / "store")


def adapter_of(store: JudgeStore, base: str, folder: Path) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    header = json.dumps({}).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return publish(store, folder, "adapter", kind="lora", base_model=base).id


@pytest.mark.parametrize("max_resident", [1, 2])
async def test_an_adapter_comes_beside_its_base_and_takes_no_room(
    max_resident: int, store: JudgeStore, tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    weights = Weights()
    base = publish(store, tiny_model("llama", 1)).id
    adapter = adapter_of(store, base, tmp_path / "adapter")
    store.propose(state(1, base))
    async with replica(tmp_path / "store", build=building(AdaptableEngine, weights), max_resident=max_resident) as one:
        await one.ready()
        answer = await one.versions.Promote(vpb.PromoteRequest(version=adapter, wait_s=60))
        assert answer.reached
        found = (await one.judge.Score(call(1))).results
        assert (versions_in(found), found[0].verdict.rating) == ({adapter}, 5)
        found = (await one.judge.Score(call(1, base))).results
        assert (versions_in(found), found[0].verdict.rating) == ({base}, 3)
        held = await refused(one.versions.Retire(vpb.RetireRequest(version=base, unload_only=True)))
        assert held.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert adapter in (held.details() or "")
    assert weights.loaded == set()
    assert weights.most == 1


@pytest.mark.parametrize("max_resident", [1, 2])
async def test_an_adapter_brings_the_base_that_it_needs(
    max_resident: int, store: JudgeStore, tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    """From another version, and back."""
    weights = Weights()
    base, other = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    adapter = adapter_of(store, base, tmp_path / "adapter")
    store.propose(state(1, other))
    async with replica(tmp_path / "store", build=building(AdaptableEngine, weights), max_resident=max_resident) as one:
        await one.ready()
        for version, rating in ((adapter, 5), (other, 3), (adapter, 5)):
            answer = await one.versions.Promote(vpb.PromoteRequest(version=version, wait_s=60))
            assert answer.reached
            found = (await one.judge.Score(call(1))).results
            assert (versions_in(found), found[0].verdict.rating) == ({version}, rating)
    assert weights.most == max_resident


async def test_an_engine_that_holds_no_adapters_says_so(
    store: JudgeStore, tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    base = publish(store, tiny_model("llama", 1)).id
    adapter = adapter_of(store, base, tmp_path / "adapter")
    store.propose(state(1, base))
    async with replica(tmp_path / "store", build=building(PlainEngine, Weights())) as one:
        await one.ready()
        await one.versions.Promote(vpb.PromoteRequest(version=adapter))

        async def rolled_back() -> bool:
            return (await one.versions.List(vpb.ListRequest())).fleet.desired.number == 3

        await until(rolled_back)
        desired = (await one.versions.List(vpb.ListRequest())).fleet.desired
        assert desired.current == base
        assert "engine 'plain' there can hold none" in desired.why
