"""What a GRPO step pays for its rewards: 8 prompts with 8 completions each, through TRL's reward function.

On CPU. `adapter_ms_per_step`: with an engine that answers at once, so that the way there and back is what costs.
`adapter_vs_in_process`: with the small model in bfloat16, next to the judge as a library in this process.
`http_one_by_one_vs_adapter`: next to an HTTP reward server that scores each completion by a forward pass of its own, as
such servers usually do; it is sent all completions at once, and timed on a sample of them, since each costs the same.
Every step has texts that nobody has seen before.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from rich.progress import Progress

from benchmarks import servers, workload
from benchmarks.harness import REPETITIONS, Row, rate, ratio, report
from benchmarks.workload import Workload
from themis_client.adapters import JudgePart, RewardSettings
from themis_client.adapters.trl import TrlReward, judge_reward
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.engines.transformers.gguf import dequantised, small_model
from themis_judge.items import Status
from themis_judge.judge import Judge

PROMPTS, COMPLETIONS, RESPONSE = 8, 8, 300
SAMPLED = 12
BARS = {
    "adapter_ms_per_step": ("at most", 50.0),
    "adapter_vs_in_process": ("at most", 1.1),
    "http_one_by_one_vs_adapter": ("at least", 1.8),
}


class Steps:
    """The texts of one step after the other."""

    def __init__(self, judge: Judge) -> None:
        self._encoder = judge.asker.encoder
        self._scenario = judge.scenarios[workload.SCENARIO]
        self._seeds = itertools.count(1)

    def next(self) -> Workload:
        return workload.workload(self._encoder, self._scenario, PROMPTS, COMPLETIONS, RESPONSE, next(self._seeds))


def texts(load: Workload) -> tuple[list[str], list[str]]:
    """Prompts and completions, as a trainer has them."""
    prompts = [item.messages[0].parts[0].text for item in load.items]  # type: ignore[union-attr]
    completions = [item.response.messages[0].parts[0].text for item in load.items]  # type: ignore[union-attr]
    return prompts, completions


def reward_of(address: str) -> TrlReward:
    return judge_reward(RewardSettings(target=address, parts=(JudgePart(scenario=workload.SCENARIO),)))


def adapted(reward: TrlReward, load: Workload) -> float:
    """Seconds of a step through the adapter."""
    prompts, completions = texts(load)
    began = time.perf_counter()
    rewards = reward(prompts=prompts, completions=completions, completion_ids=[[1]] * len(prompts))
    took_s = time.perf_counter() - began
    if len(rewards) != len(prompts) or None in rewards:
        raise RuntimeError("a reward is missing")
    return took_s


def in_process(judge: Judge, loop: asyncio.AbstractEventLoop, load: Workload) -> float:
    """Seconds of a step by the library, in this process."""
    began = time.perf_counter()
    results = loop.run_until_complete(_all(judge, load))
    took_s = time.perf_counter() - began
    if any(status is not Status.OK for status in results):
        raise RuntimeError("a score is missing")
    return took_s


async def _all(judge: Judge, load: Workload) -> list[Status]:
    results = await asyncio.gather(*(judge.score_one(item) for item in load.items))
    return [result.status for result in results]


def one_by_one(address: str, load: Workload) -> float:
    """Seconds of a step by the HTTP server, from a sample of its completions."""
    step = len(load.items) // SAMPLED
    rows = list(zip(*texts(load), strict=True))[::step][:SAMPLED]
    with ThreadPoolExecutor(len(rows)) as pool:
        began = time.perf_counter()
        rewards = list(pool.map(lambda row: _posted(address, *row), rows))
        took_s = time.perf_counter() - began
    if not all(isinstance(reward, float) for reward in rewards):
        raise RuntimeError("a reward is missing")
    return took_s / len(rows) * len(load.items)


def _posted(address: str, prompt: str, response: str) -> object:
    body = json.dumps({"prompt": prompt, "response": response}).encode()
    request = Request(f"http://{address}/reward", body, {"content-type": "application/json"})
    with urlopen(request, timeout=600) as answer:
        return json.load(answer)


# ------------------------------------------------------------------------------------------------------------ parts


def path(model: str, progress: Progress) -> list[Row]:
    judge = asyncio.run(servers.instant_judge(model))
    process, address = servers.start("instant", model)
    try:
        reward, steps = reward_of(address), Steps(judge)
        loads = [steps.next() for _ in progress.track(range(4 * REPETITIONS + 2), description="texts")]
        took_ms = [1000 * adapted(reward, load) for load in loads][2:]  # the first ones connect and warm up
    finally:
        servers.end(process)
    return [rate("adapter_ms_per_step", took_ms, "ms")]


def judged(model: str, progress: Progress) -> list[Row]:
    loop = asyncio.new_event_loop()
    judge = loop.run_until_complete(_library(model))
    told: dict[str, list[float]] = {"adapter": [], "library": [], "http": []}
    processes = []
    try:
        processes.append(servers.start("judge", model))
        processes.append(servers.start("one_by_one", model))
        (_, address), (_, http) = processes
        reward, steps = reward_of(address), Steps(judge)
        for repetition in progress.track(range(-1, REPETITIONS), description="steps with the small model"):
            figures = {
                "adapter": adapted(reward, steps.next()),
                "library": in_process(judge, loop, steps.next()),
                "http": one_by_one(http, steps.next()),
            }
            if repetition >= 0:  # the one before warms up
                for name, value in figures.items():
                    told[name].append(value)
    finally:
        for process, _ in processes:
            servers.end(process)
        loop.run_until_complete(judge.unload())
        loop.close()
    return [
        ratio("adapter_vs_in_process", told["adapter"], told["library"]),
        ratio("http_one_by_one_vs_adapter", told["http"], told["adapter"]),
        rate("adapter_s_per_step", told["adapter"], "s"),
        rate("in_process_s_per_step", told["library"], "s"),
        rate("http_one_by_one_s_per_step", told["http"], "s"),
    ]


async def _library(model: str) -> Judge:
    return await servers.with_bench(Judge(TransformersEngine(TransformersSettings(model, dtype="bfloat16"))))


def run(parts: Sequence[str]) -> None:
    model = str(dequantised(small_model()))
    kinds = {"path": path, "judged": judged}
    rows: list[Row] = []
    with Progress(transient=True) as progress:
        for part in parts:
            rows += kinds[part](model, progress)
    notes = [
        f"{PROMPTS} prompts x {COMPLETIONS} completions; {workload.HEAD} static head + {workload.CONVERSATION} "
        f"conversation + {RESPONSE} response tokens",
        f"{os.cpu_count()} cores, torch {torch.__version__}, bfloat16; {SAMPLED} completions a step over HTTP",
    ]
    report("trainers", rows, BARS, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=("path", "judged"), default=["path", "judged"])
    run(parser.parse_args().parts)


if __name__ == "__main__":
    main()
