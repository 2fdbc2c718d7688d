"""How close the sidecar comes to what its engine could do, and how far it is ahead of scoring one by one.

On CPU, with the small model in bfloat16. `ideal`: the same items' distinct tokens in ideal batches, called in
process, without queue or server. `one by one`: each prompt scored alone by the model's own forward pass with its
stock attention, as usual reward servers do; called in process, so its own transport costs it nothing, and on a
sample of the items, since each costs the same.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import grpc
import psutil
import torch
import uvloop
from rich.progress import Progress
from transformers import AutoModelForCausalLM

from benchmarks import servers, workload
from benchmarks.harness import REPETITIONS, Row, rate, ratio, report, slope
from benchmarks.workload import Workload
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.engines.transformers.engine import LabelJob, TreeBackend
from themis_judge.engines.transformers.gguf import dequantised, small_model
from themis_judge.judge import Judge
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc

CALLERS = 64
BARS = {
    "limit_share": ("at least", 0.9),
    "unrelated_vs_one_by_one": ("at least", 1.6),
    "grouped_vs_one_by_one": ("at least", 2.2),
    "server_path_share": ("at least", 0.6),
    "server_path_share_batch16": ("at least", 0.6),
    "memory_mb_per_10k_items": ("at most", 1.0),
}
MEMORY_ITEMS, MEMORY_WARM_UP = 100_000, 20_000
PATH_POOL = 4096  # distinct items that the server path is measured with, at a time
IDEAL_BATCH = 16


@dataclass(frozen=True, slots=True)
class Lengths:
    """One set of prompts. sampled: how many of the items the one-by-one handler scores."""

    suffix: str
    response: int
    unrelated: int
    groups: int
    members: int
    sampled: int


LENGTHS = (Lengths("", 300, 64, 16, 8, 12), Lengths("_1500", 1500, 16, 2, 8, 3))


# ---------------------------------------------------------------------------------------------- with the model


class Peers:
    """The sidecar, the ideal and the one-by-one handler on one engine."""

    def __init__(self, model: str) -> None:
        self._model = model

    async def open(self) -> None:
        engine = TransformersEngine(TransformersSettings(self._model, dtype="bfloat16"))
        base = Judge(engine)
        await base.load()
        self.bench = workload.scenario(base.asker.encoder)
        self._base = base
        tokenizer, batcher, _ = engine._ready
        backend = batcher._backend
        assert isinstance(backend, TreeBackend)
        self._ideal = TreeBackend(backend._model, tokenizer, cache_tokens=1 << 20)
        self._plain: Any = AutoModelForCausalLM.from_pretrained(self._model, dtype=torch.bfloat16)

    def items(self, groups: int, members: int, response: int, seed: int) -> Workload:
        return workload.workload(self._base.asker.encoder, self.bench, groups, members, response, seed)

    async def served(self, load: Workload) -> float:
        """Items per second through the server, each in a call of its own, CALLERS at a time."""
        judge = workload.with_scenario(self._base, self.bench)
        await judge.load()
        calls = [workload.request([item]) for item in load.items]
        async with servers.serving(judge) as address, grpc.aio.insecure_channel(address) as channel:
            stub = servers.stub_of(channel)
            began = time.perf_counter()
            await _concurrently(stub, calls, CALLERS)
            return len(calls) / (time.perf_counter() - began)

    def ideal(self, load: Workload) -> float:
        """Items per second of the backend alone; the head is held, as it is in the server after its first call."""
        labels = self._base.asker.encoder.labels(tuple("12345"))
        jobs = [LabelJob(prompt, labels) for prompt in load.prompts]
        began = time.perf_counter()
        for begin in range(0, len(jobs), IDEAL_BATCH):
            self._ideal.start(jobs[begin : begin + IDEAL_BATCH])
        return len(jobs) / (time.perf_counter() - began)

    @torch.inference_mode()
    def one_by_one(self, load: Workload, sampled: int) -> float:
        labels = [sequence[0] for sequence in self._base.asker.encoder.labels(tuple("12345")).sequences]
        prompts = load.prompts[:: max(1, len(load.prompts) // sampled)][:sampled]
        began = time.perf_counter()
        for prompt in prompts:
            ids = torch.tensor([[token for segment in prompt.segments for token in segment]])
            logits = self._plain(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]
            torch.log_softmax(logits.float(), -1)[labels].tolist()
        return len(prompts) / (time.perf_counter() - began)


async def with_model(model: str, progress: Progress, responses: Sequence[int]) -> list[Row]:
    peers = Peers(model)
    await peers.open()
    rows: list[Row] = []
    seeds = itertools.count(1)
    for lengths in (one for one in LENGTHS if one.response in responses):
        task = progress.add_task(f"responses of {lengths.response} tokens", total=REPETITIONS + 1)
        told: dict[str, list[float]] = {}
        for repetition in range(-1, REPETITIONS):
            small = repetition < 0  # a short round to warm up
            unrelated = peers.items(4 if small else lengths.unrelated, 1, lengths.response, next(seeds))
            again = peers.items(4 if small else lengths.unrelated, 1, lengths.response, next(seeds))
            grouped = peers.items(1 if small else lengths.groups, lengths.members, lengths.response, next(seeds))
            figures = {
                "ideal": peers.ideal(unrelated),
                "unrelated": await peers.served(again),
                "alone": peers.one_by_one(again, 1 if small else lengths.sampled),
                "grouped": await peers.served(grouped),
                "alone_grouped": peers.one_by_one(grouped, 1 if small else lengths.sampled),
            }
            if not small:
                for name, value in figures.items():
                    told.setdefault(name, []).append(value)
            progress.advance(task)
        rows += [
            ratio(f"limit_share{lengths.suffix}", told["unrelated"], told["ideal"]),
            ratio(f"unrelated_vs_one_by_one{lengths.suffix}", told["unrelated"], told["alone"]),
            ratio(f"grouped_vs_one_by_one{lengths.suffix}", told["grouped"], told["alone_grouped"]),
            rate(f"unrelated_items_per_s{lengths.suffix}", told["unrelated"], "items/s"),
            rate(f"grouped_items_per_s{lengths.suffix}", told["grouped"], "items/s"),
        ]
    return rows


# ---------------------------------------------------------------------------------------------- the path alone


async def server_path(model: str, progress: Progress) -> list[Row]:
    judge = await servers.instant_judge(model)
    load = workload.workload(judge.asker.encoder, judge.scenarios[workload.SCENARIO], PATH_POOL, 1, 300, 0)
    echo_process, echo = servers.start("echo", model)
    ours_process, ours = servers.start("instant", model)
    rows: list[Row] = []
    try:
        fresh = itertools.count(0, PATH_POOL)
        for name, size in (("server_path_share", 1), ("server_path_share_batch16", 16)):
            shares: list[float] = []
            limits: list[float] = []
            for _ in progress.track(range(REPETITIONS + 1), description=f"server path, {size} a call"):
                calls = _fresh_calls(load, next(fresh), PATH_POOL, size)
                echoed = await _rate(echo, calls)
                tokenised = await _tokenising_rate(model, load)
                limits.append(1 / (1 / echoed + 1 / tokenised))
                shares.append(await _rate(ours, calls))
            rows += [ratio(name, shares[1:], limits[1:]), rate(f"{name}_items_per_s", shares[1:], "items/s")]
        rows.append(await memory(ours, ours_process.pid, load, progress))
    finally:
        for process in (echo_process, ours_process):
            servers.end(process)
    return rows


async def memory(address: str, pid: int, load: Workload, progress: Progress) -> Row:
    """Resident memory of the server over MEMORY_ITEMS distinct items, after MEMORY_WARM_UP of them."""
    process = psutil.Process(pid)
    xs: list[float] = []
    ys: list[float] = []
    step = MEMORY_WARM_UP // 4
    async with grpc.aio.insecure_channel(address) as channel:
        stub = servers.stub_of(channel)
        for done in progress.track(
            range(step, MEMORY_WARM_UP + MEMORY_ITEMS + 1, step), description=f"memory over {MEMORY_ITEMS:,} items"
        ):
            await _concurrently(stub, _fresh_calls(load, 1_000_000 + done, step, 16), CALLERS)
            if done >= MEMORY_WARM_UP:
                xs.append(done / 10_000)
                ys.append(process.memory_info().rss / 1e6)
    return slope("memory_mb_per_10k_items", xs, ys, "MB per 10,000 items")


def _fresh_calls(load: Workload, offset: int, count: int, size: int) -> list[pb.ScoreRequest]:
    """Calls of `size` items that no earlier call held: a number makes every text another."""
    calls = []
    for begin in range(0, count, size):
        call = workload.request([load.items[(begin + i) % PATH_POOL] for i in range(size)])
        for index, item in enumerate(call.items):
            number = f"{offset + begin + index} "
            item.messages[0].parts[0].text = number + item.messages[0].parts[0].text
            item.response.messages[0].parts[0].text = number + item.response.messages[0].parts[0].text
        calls.append(call)
    return calls


async def _rate(address: str, calls: Sequence[pb.ScoreRequest]) -> float:
    """Items per second."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = servers.stub_of(channel)
        await stub.Describe(pb.DescribeRequest(), timeout=60)  # connects
        began = time.perf_counter()
        await _concurrently(stub, calls, CALLERS)
        return sum(len(call.items) for call in calls) / (time.perf_counter() - began)


async def _tokenising_rate(model: str, load: Workload) -> float:
    """Items rendered and tokenised per second, in process, with nothing remembered but static texts."""
    judge = await servers.instant_judge(model)
    encoder, bench = judge.asker.encoder, judge.scenarios[workload.SCENARIO]
    workload.encode(encoder, bench, load.items[0])
    began = time.perf_counter()
    for item in load.items:
        workload.encode(encoder, bench, item)
    return len(load.items) / (time.perf_counter() - began)


async def _concurrently(
    stub: judge_pb2_grpc.JudgeServiceAsyncStub, calls: Sequence[pb.ScoreRequest], callers: int
) -> None:
    """All calls, `callers` at a time; every item must have been scored."""
    waiting = iter(calls)

    async def caller() -> None:
        for call in waiting:
            answer = await stub.Score(call, timeout=600)
            failed = [result.error for result in answer.results if result.status != pb.ITEM_STATUS_OK]
            if failed:
                raise RuntimeError(f"{len(failed)} items failed, the first with: {failed[0]}")

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())


async def run(parts: Sequence[str], responses: Sequence[int]) -> None:
    model = str(dequantised(small_model()))
    kinds: dict[str, Callable[[str, Progress], Awaitable[list[Row]]]] = {
        "path": server_path,
        "model": partial(with_model, responses=responses),
    }
    rows: list[Row] = []
    with Progress(transient=True) as progress:
        for part in parts:
            rows += await kinds[part](model, progress)
    notes = [
        f"prompts: {workload.HEAD} static head + {workload.CONVERSATION} conversation + 300 (or 1500) response tokens",
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, bfloat16",
    ]
    report("serving", rows, BARS, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=("path", "model"), default=["path", "model"])
    lengths = [one.response for one in LENGTHS]
    parser.add_argument("--responses", nargs="+", type=int, choices=lengths, default=lengths, help="tokens")
    arguments = parser.parse_args()
    uvloop.run(run(arguments.parts, arguments.responses))


if __name__ == "__main__":
    main()
