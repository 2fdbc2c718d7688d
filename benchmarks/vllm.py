"""What the sidecar on vLLM makes of vLLM, next to vLLM itself: offline and over its own HTTP server.

On vLLM's CPU build. `offline_share`: 64 callers of one item each, next to `LLM.generate` with all prompts at once;
the small model. `http_one_item` and `http_batch`: next to /v1/completions with prompt ids and `logprob_token_ids`, at
the connection count that suits it best; a tiny random model with the small model's tokenizer, so that the path is
what costs. The sidecar is sent texts and tokenises them, its peers get ids. `prefix_gain`: groups of eight, next to
the same with prefix caching off. Every peer has its own processes and is frozen while others are measured; all of a
repetition is measured side by side, on items that nobody has seen before.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.remove(str(Path(__file__).parent))  # there, "vllm" would be this file
sys.path.insert(0, str(Path(__file__).parent.parent))

import grpc
import uvloop
from rich.progress import Progress
from transformers import AutoTokenizer

from benchmarks import servers, vllm_peers, workload
from benchmarks.harness import REPETITIONS, Row, rate, ratio, report
from benchmarks.vllm_http import completions, send_all
from benchmarks.vllm_peers import Peer
from benchmarks.workload import Workload
from themis_judge.engines.tokenizer import HFTokenizer
from themis_judge.engines.transformers.gguf import dequantised, small_model
from themis_judge.items import Item, Message, Response
from themis_judge.scenarios import Scenario
from themis_judge.tokens import Encoder
from themis_proto.v1 import judge_pb2 as pb

CALLERS = 64
BATCH = 16
CONNECTIONS = (16, 64, 128)
RESPONSE = 300
BARS = {
    "offline_share": ("at least", 0.95),
    "http_one_item": ("at least", 1.3),
    "http_batch": ("at least", 1.1),
    "prefix_gain": ("at least", 2.2),
}
LOG = Path(__file__).parent / "out"
# Each gets what vLLM's own defaults for offline use are on a CPU: fewer, larger steps.
EAGER: dict[str, Any] = {"enforce_eager": True, "max_model_len": 2048, "max_num_batched_tokens": 4096}
OURS: dict[str, Any] = {"enforce_eager": True, "context_tokens": 2048, "max_batch_tokens": 4096, "cpu_cache_gib": 1}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many items each measurement has."""

    offline: int
    tiny: int
    groups: int
    members: int = 8

    def scaled(self, share: float) -> Sizes:
        return replace(
            self,
            offline=max(8, round(self.offline * share)),
            tiny=max(2 * CALLERS, round(self.tiny * share)),
            groups=max(2, round(self.groups * share)),
        )


class Bench:
    """Items with the same prompts for everybody."""

    def __init__(self, model: str) -> None:
        self.encoder = Encoder(HFTokenizer(AutoTokenizer.from_pretrained(model)))
        self.scenario: Scenario = workload.scenario(self.encoder)
        self.labels = [sequence[0] for sequence in self.encoder.labels(tuple("12345")).sequences]
        self._pool: Workload | None = None
        self._numbers = itertools.count()

    def items(self, groups: int, members: int, seed: int) -> Workload:
        return workload.workload(self.encoder, self.scenario, groups, members, RESPONSE, seed)

    def fresh(self, count: int) -> Workload:
        """Unrelated items that nobody has seen: quickly made, a number makes every text another."""
        if self._pool is None:
            self._pool = self.items(256, 1, 0)
        items = [self._renewed(self._pool.items[index % 256]) for index in range(count)]
        return Workload(items, [workload.encode(self.encoder, self.scenario, item) for item in items])

    def _renewed(self, item: Item) -> Item:
        number = f"{next(self._numbers)} "
        user, answer = item.messages[0].parts[0].text, item.response.messages[0].parts[0].text  # type: ignore[union-attr]
        return replace(item, messages=(Message.of("user", number + user),), response=Response.of(number + answer))


def ids_of(load: Workload) -> list[list[int]]:
    return [[token for segment in prompt.segments for token in segment] for prompt in load.prompts]


async def served(peer: Peer, address: str, load: Workload, size: int, callers: int) -> float:
    """Items per second through the sidecar, in calls of `size` items."""
    calls = [workload.request(load.items[begin : begin + size]) for begin in range(0, len(load.items), size)]
    with peer.awake():
        async with grpc.aio.insecure_channel(address) as channel:
            stub = servers.stub_of(channel)
            await stub.Describe(pb.DescribeRequest(), timeout=60)  # connects
            waiting = iter(calls)

            async def caller() -> None:
                for call in waiting:
                    answer = await stub.Score(call, timeout=900)
                    failed = [result.error for result in answer.results if result.status != pb.ITEM_STATUS_OK]
                    if failed:
                        raise RuntimeError(f"{len(failed)} items failed, the first with: {failed[0]}")

            began = time.perf_counter()
            await asyncio.gather(*(caller() for _ in range(callers)))
            return len(load.items) / (time.perf_counter() - began)


async def over_http(peer: Peer, port: int, load: Workload, labels: Sequence[int], size: int) -> list[float]:
    """Items per second over vLLM's HTTP server, by connection count; each gets its share of the items."""
    ids, told = ids_of(load), []
    each = len(ids) // len(CONNECTIONS)
    for index, connections in enumerate(CONNECTIONS):
        mine = ids[index * each : (index + 1) * each]
        requests = [completions(mine[begin : begin + size], labels) for begin in range(0, len(mine), size)]
        with peer.awake():
            began = time.perf_counter()
            answered = await send_all(port, requests, connections, len(labels))
            told.append(len(mine) / (time.perf_counter() - began))
        if answered != len(mine):
            raise RuntimeError(f"vLLM answered {answered} of {len(mine)} prompts")
    return told


def generated(peer: Peer, load: Workload, labels: Sequence[int]) -> float:
    """Items per second of vLLM's offline `generate`."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump({"prompts": ids_of(load), "labels": list(labels)}, file)
        file.flush()
        with peer.awake():
            return len(load.items) / float(peer.ask(file.name))


@contextmanager
def ending(peer: Peer) -> Iterator[Peer]:
    try:
        yield peer
    finally:
        peer.end()


# -------------------------------------------------------------------------------------------------------- parts


async def small(sizes: Sizes, progress: Progress) -> list[Row]:
    """With the small model, where computing is what costs."""
    model = str(dequantised(small_model()))
    bench, seeds = Bench(model), itertools.count(1)
    told: dict[str, list[float]] = {"ours": [], "offline": [], "grouped": [], "uncached": []}
    with ExitStack() as stack:
        ours, address = vllm_peers.sidecar(model, OURS, LOG / "vllm-sidecar.log")
        stack.enter_context(ending(ours))
        with ending(vllm_peers.offline(model, EAGER, LOG / "vllm-offline.log")) as offline:
            for repetition in progress.track(range(-1, REPETITIONS), description="next to vLLM offline"):
                load = bench.items(8 if repetition < 0 else sizes.offline, 1, next(seeds))
                figures = {
                    "offline": generated(offline, load, bench.labels),
                    "ours": await served(ours, address, load, 1, CALLERS),
                }
                _keep(told, figures, repetition)
        uncached, other = vllm_peers.sidecar(model, OURS | {"prefix_caching": False}, LOG / "vllm-uncached.log")
        stack.enter_context(ending(uncached))
        for repetition in progress.track(range(-1, REPETITIONS), description="next to no prefix caching"):
            load = bench.items(1 if repetition < 0 else sizes.groups, sizes.members, next(seeds))
            figures = {
                "uncached": await served(uncached, other, load, 1, CALLERS),
                "grouped": await served(ours, address, load, 1, CALLERS),
            }
            _keep(told, figures, repetition)
    return [
        ratio("offline_share", told["ours"], told["offline"]),
        rate("items_per_s", told["ours"], "items/s"),
        ratio("prefix_gain", told["grouped"], told["uncached"]),
        rate("grouped_items_per_s", told["grouped"], "items/s"),
    ]


async def tiny(sizes: Sizes, progress: Progress) -> list[Row]:
    """With a tiny model, where the path is what costs."""
    rows: list[Row] = []
    with ExitStack() as stack:
        model = stack.enter_context(tempfile.TemporaryDirectory(prefix="themis-tiny-"))
        write_tiny(Path(model))
        bench = Bench(model)
        # The peer multiplies by its head in bfloat16, so ours does too: the numerics are not what is compared here.
        ours, address = vllm_peers.sidecar(model, OURS | {"exact_logits": False}, LOG / "vllm-sidecar-tiny.log")
        stack.enter_context(ending(ours))
        flags = ["--enforce-eager", "--max-model-len", "2048", "--max-num-batched-tokens", "4096"]
        flags += ["--dtype", "bfloat16", "--disable-log-stats", "--enable-prefix-caching"]
        http, port = vllm_peers.http(model, flags, LOG / "vllm-http.log")
        stack.enter_context(ending(http))
        for name, size, callers in (("http_one_item", 1, CALLERS), ("http_batch", BATCH, CALLERS // 4)):
            told: dict[str, list[float]] = {"ours": [], "http": []}
            for repetition in progress.track(range(-1, REPETITIONS), description=f"{size} items a call"):
                count = 2 * CALLERS if repetition < 0 else sizes.tiny
                figures = {
                    "ours": await served(ours, address, bench.fresh(count), size, callers),
                    "http": max(await over_http(http, port, bench.fresh(count * len(CONNECTIONS)), bench.labels, size)),
                }
                _keep(told, figures, repetition)
            rows += [
                ratio(name, told["ours"], told["http"]),
                rate(f"{name}_items_per_s", told["ours"], "items/s"),
                rate(f"{name}_peer_items_per_s", told["http"], "items/s"),
            ]
    return rows


def _keep(told: dict[str, list[float]], figures: dict[str, float], repetition: int) -> None:
    if repetition >= 0:  # the one before warms up
        for name, value in figures.items():
            told[name].append(value)


def write_tiny(folder: Path) -> None:
    """A random model of one layer with one head, and the small model's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    source = dequantised(small_model())
    config = AutoConfig.from_pretrained(source)
    changed = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 32}
    for name, value in (changed | {"num_attention_heads": 1, "num_key_value_heads": 1}).items():
        setattr(config, name, value)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)  # type: ignore[no-untyped-call]
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


async def run(parts: Sequence[str], share: float) -> None:
    LOG.mkdir(exist_ok=True)
    sizes = Sizes(offline=64, tiny=1024, groups=16).scaled(share)
    kinds = {"small": small, "tiny": tiny}
    rows: list[Row] = []
    with Progress(transient=True) as progress:
        for part in parts:
            rows += await kinds[part](sizes, progress)
    notes = [
        f"prompts: {workload.HEAD} static head + {workload.CONVERSATION} conversation + {RESPONSE} response tokens",
        f"{sizes.offline} items offline, {sizes.tiny} over HTTP, {sizes.groups} groups of {sizes.members}; "
        f"{os.cpu_count()} cores, bfloat16",
    ]
    report("vllm", rows, BARS, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=("small", "tiny"), default=["small", "tiny"])
    parser.add_argument("--share", type=float, default=1.0, help="of the items, for a quick look")
    arguments = parser.parse_args()
    uvloop.run(run(arguments.parts, arguments.share))


if __name__ == "__main__":
    main()
