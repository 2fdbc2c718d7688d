"""What a promotion costs those who call meanwhile.

A server with a store of versions, as its users run it, in a process of its own, and callers in a closed loop, each
call a group of responses to one conversation. The models are tiny and their weights random, so that the server's own
path is what promotions could disturb. First 100 promotions between two resident versions, in bursts with quiet between
them; then some that load the promoted version first, beside the running one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parent.parent))

import grpc
import torch
from rich.progress import Progress
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.harness import REPETITIONS, Row, count, ratio, report
from themis_judge.engines.transformers.gguf import dequantised, small_model
from themis_judge.store import DesiredState, Draft, JudgeStore, SystemClock, written
from themis_judge.version import JudgeSettings
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc, versions_pb2_grpc
from themis_proto.v1 import versions_pb2 as vpb

ROOT = Path(__file__).parent.parent
BARS = {
    "swap_failed_calls": ("at most", 0.0),
    "swap_mixed_groups": ("at most", 0.0),
    "swap_p99_ratio": ("at most", 2.0),
}
CALLERS, MEMBERS = 4, 4
NEAR_S = 5.0
PROMOTIONS = 100
SPACING_S = 0.5  # between the promotions of a burst
QUIET_S = 2 * NEAR_S + 15.0  # after each burst: the near ends on either side, and time that is near to none
LOADS = 6
READY_S, PROMOTE_S = 120.0, 60.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when it began and ended on the monotonic clock, in seconds; versions: among its results."""

    began_s: float
    ended_s: float
    versions: frozenset[str]
    failed: bool

    @property
    def took_s(self) -> float:
        return self.ended_s - self.began_s


@dataclass
class Load:
    """Callers that go on until they are told to stop."""

    stub: judge_pb2_grpc.JudgeServiceAsyncStub
    calls: list[Call] = field(default_factory=list)
    ended: bool = False

    async def ask(self, name: int) -> None:
        for turn in itertools.count():
            if self.ended:
                return
            began_s = time.monotonic()
            try:
                results: Sequence[pb.Result] = (await self.stub.Score(_group(f"{name}.{turn}"), timeout=60)).results
            except grpc.aio.AioRpcError:
                results = ()
            failed = not results or any(result.status != pb.ITEM_STATUS_OK for result in results)
            versions = frozenset(result.version for result in results)
            self.calls.append(Call(began_s, time.monotonic(), versions, failed))


@dataclass
class Fleet:
    """One server and its versions."""

    judge: judge_pb2_grpc.JudgeServiceAsyncStub
    versions: versions_pb2_grpc.VersionServiceAsyncStub
    ids: list[str]
    promoted_s: list[float] = field(default_factory=list)

    async def promote(self, version: str) -> None:
        began_s = time.monotonic()
        answer = await self.versions.Promote(vpb.PromoteRequest(version=version, wait_s=PROMOTE_S), timeout=120)
        if not answer.reached:
            raise RuntimeError(f"{version} did not become current: {answer.fleet.desired.why}")
        self.promoted_s += [began_s, time.monotonic()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--promotions", type=int, default=PROMOTIONS, help="(default: %(default)s)")
    parser.add_argument("--loads", type=int, default=LOADS, help="promotions that load first (default: %(default)s)")
    arguments = parser.parse_args()
    if 0 < arguments.loads < REPETITIONS:
        parser.error(f"--loads: 0, or at least {REPETITIONS}: an interval needs so many")
    with tempfile.TemporaryDirectory() as folder:
        store = JudgeStore.open(f"{folder}/store", Path(folder, "cache"))
        ids = [_publish(store, Path(folder, f"model-{seed}"), seed) for seed in range(3)]
        store.propose(_first(ids[:2]))
        with _server(Path(folder)) as address:
            rows, notes = asyncio.run(_measure(address, ids, arguments.promotions, arguments.loads))
    report("swap", rows, BARS, notes)


async def _measure(address: str, ids: list[str], promotions: int, loads: int) -> tuple[list[Row], list[str]]:
    async with grpc.aio.insecure_channel(address) as channel:
        judge = cast("judge_pb2_grpc.JudgeServiceAsyncStub", judge_pb2_grpc.JudgeServiceStub(channel))
        versions = cast("versions_pb2_grpc.VersionServiceAsyncStub", versions_pb2_grpc.VersionServiceStub(channel))
        fleet = Fleet(judge, versions, ids)
        load = Load(judge)
        callers = [asyncio.create_task(load.ask(name)) for name in range(CALLERS)]
        await asyncio.sleep(2 * NEAR_S)  # the first calls warm up
        with Progress(transient=True) as progress:
            flips = await _flips(fleet, load, promotions, progress)
            loaded = await _loads(fleet, load, loads, progress) if loads else []
        load.ended = True
        await asyncio.gather(*callers)
        rows = [
            count("swap_failed_calls", sum(call.failed for call in load.calls), "calls"),
            count("swap_mixed_groups", sum(len(call.versions) > 1 for call in load.calls), "groups"),
            _p99_ratio("swap_p99_ratio", flips),
        ]
        if loaded:
            rows.append(_p99_ratio("swap_p99_ratio_with_load", loaded))
        used = {version for call in load.calls for version in call.versions}
        notes = [
            f"{len(load.calls)} calls of {MEMBERS} items, {CALLERS} at a time, {len(used)} versions answered; "
            f"{promotions} promotions between resident versions, {loads} that load first",
            *_percentiles(flips, "between resident versions"),
            *_percentiles(loaded, "with a load"),
        ]
        return rows, notes


Split = tuple[list[float], list[float]]
"""Durations of calls near a promotion, and of those elsewhere, in seconds."""


async def _flips(fleet: Fleet, load: Load, promotions: int, progress: Progress) -> list[Split]:
    """One split per burst of promotions and the quiet after it."""
    task, splits = progress.add_task("promotions", total=promotions), []
    turn = itertools.cycle(fleet.ids[1::-1])
    for burst in range(REPETITIONS):
        begin = len(load.calls)
        for _ in range(promotions // REPETITIONS + (burst < promotions % REPETITIONS)):
            await fleet.promote(next(turn))
            progress.advance(task)
            await asyncio.sleep(SPACING_S)
        await asyncio.sleep(QUIET_S)
        splits.append(_split(load.calls[begin:], fleet.promoted_s))
    return splits


async def _loads(fleet: Fleet, load: Load, loads: int, progress: Progress) -> list[Split]:
    """Three versions in turn where two fit: each promotion unloads the oldest and loads the next one."""
    task, splits = progress.add_task("promotions that load", total=loads), []
    turn = itertools.cycle(fleet.ids[::-1])  # never the one that was current before
    for _ in range(loads):
        begin = len(load.calls)
        await fleet.promote(next(turn))
        progress.advance(task)
        await asyncio.sleep(QUIET_S)
        splits.append(_split(load.calls[begin:], fleet.promoted_s))
    return splits


def _split(calls: Sequence[Call], promoted_s: Sequence[float]) -> Split:
    """promoted_s: begin and end of each promotion, in turn."""
    spans = [(begin - NEAR_S, end + NEAR_S) for begin, end in zip(promoted_s[::2], promoted_s[1::2], strict=True)]
    near: list[float] = []
    elsewhere: list[float] = []
    for call in calls:
        close = any(call.began_s <= end and call.ended_s >= begin for begin, end in spans)
        (near if close else elsewhere).append(call.took_s)
    return near, elsewhere


def _p99_ratio(name: str, splits: Sequence[Split]) -> Row:
    return ratio(name, [_p99(near) for near, _ in splits], [_p99(elsewhere) for _, elsewhere in splits])


def _p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


def _percentiles(splits: Sequence[Split], name: str) -> Iterator[str]:
    if splits:
        near, elsewhere = (sorted(itertools.chain.from_iterable(part)) for part in zip(*splits, strict=True))
        yield (
            f"{name}: median {1e3 * near[len(near) // 2]:.0f} ms and p99 {1e3 * _p99(near):.0f} ms within {NEAR_S:g} s "
            f"of a promotion ({len(near)} calls), {1e3 * elsewhere[len(elsewhere) // 2]:.0f} ms and "
            f"{1e3 * _p99(elsewhere):.0f} ms elsewhere ({len(elsewhere)} calls)"
        )


def _group(name: str) -> pb.ScoreRequest:
    """One conversation and MEMBERS responses to it."""
    asked = pb.Message(role="user", parts=[pb.Part(text=f"Question {name}: what is the tide?")])

    def answer(member: int) -> pb.Response:
        return pb.Response(messages=[pb.Message(role="assistant", parts=[pb.Part(text=f"Answer {member}.")])])

    items = [
        pb.Item(key=str(member), group=name, scenario="math", messages=[asked], response=answer(member))
        for member in range(MEMBERS)
    ]
    return pb.ScoreRequest(items=items)


def _publish(store: JudgeStore, folder: Path, seed: int) -> str:
    """A model of two layers with random weights, and the small model's tokenizer."""
    tokenizer: Any = AutoTokenizer.from_pretrained(dequantised(small_model()))
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=8192, tie_word_embeddings=True, **sizes)
    model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = JudgeSettings(label_mass_threshold=0.0)  # random weights put next to nothing on labels
    return store.publish(Draft(f"tiny-{seed}", folder, "random", settings=settings)).id


def _first(ids: Sequence[str]) -> DesiredState:
    return DesiredState(1, ids[0], tuple(ids), None, None, "benchmark", written(SystemClock().now()), "")


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """The address of a server on the store in `folder`."""
    ready, log = folder / "ready", folder / "server.log"
    command = [sys.executable, "-m", "themis_sidecar", "--listen.port", "0", "--ready-file", str(ready)]
    flags = ["--store.url", f"{folder}/store", "--engine.transformers.dtype", "float32", "--log.level", "warning"]
    with log.open("w") as output:
        process = subprocess.Popen([*command, *flags], cwd=ROOT, env=os.environ, stderr=output)
    try:
        _wait(lambda: ready.exists() or process.poll() is not None)
        if not ready.exists():
            raise RuntimeError(f"the server did not start: {log.read_text()}")
        yield ready.read_text().strip()
    finally:
        process.terminate()
        process.wait(60)


def _wait(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > end_s:
            raise RuntimeError("the server took too long")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
