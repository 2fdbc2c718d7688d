"""How close the stage `difficulty` comes to what its engine could do, and how far it is ahead of scoring one by one.

On CPU, with the small model in bfloat16. Ours: the stage's own handler, by the client and a real server, CALLERS labels
at a time. `ideal`: the same labels' distinct tokens in ideal batches, called in process, without queue or server. `one
by one`: for each label the model's own forward pass over prompt and critique, and another over critique alone, as both
published implementations do; called in process and on a sample of the labels, since each costs the same.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
import uvloop
from rich.progress import Progress
from transformers import AutoModelForCausalLM

from benchmarks import servers, workload
from benchmarks.harness import REPETITIONS, Row, rate, ratio, report
from themis_client import AsyncClient
from themis_judge.engines.base import Deadline, Prompt
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.engines.transformers.engine import LikelihoodJob, TreeBackend
from themis_judge.engines.transformers.gguf import dequantised, small_model
from themis_judge.items import Item, Text
from themis_judge.judge import Judge
from themis_judge.prompts import Layout
from themis_pipeline.stages.convert import text_message
from themis_pipeline.stages.difficulty import Difficulty
from themis_pipeline.stages.seam import Context
from themis_proto.v1 import events_pb2 as ev
from themis_proto.v1 import judge_pb2 as pb

CALLERS, RESPONSE, CRITIQUE, IDEAL_BATCH = 64, 300, 120, 16
LABELS, SAMPLED = 24, 4
BARS = {"limit_share": ("at least", 0.9), "vs_one_by_one": ("at least", 1.5)}
HANDLE_S = 600.0


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels, and for each the prompt and the critique as the engine gets them."""

    events: list[ev.Labelled]
    prompts: list[Prompt]
    critiques: list[tuple[int, ...]]


class Peers:
    """The stage, the ideal and the one-by-one loop on one engine."""

    def __init__(self, model: str) -> None:
        self._model = model

    async def open(self) -> None:
        engine = TransformersEngine(TransformersSettings(self._model, dtype="bfloat16"))
        self._base = Judge(engine)
        await self._base.load()
        self._bench = workload.scenario(self._base.asker.encoder)
        self._tokenizer, batcher, _ = engine._ready
        backend = batcher._backend
        assert isinstance(backend, TreeBackend)
        self._ideal = TreeBackend(backend._model, self._tokenizer, cache_tokens=1 << 20)
        self._alone = Prompt((self._base.asker.encoder.static(self._tokenizer.header),))
        self._plain: Any = AutoModelForCausalLM.from_pretrained(self._model, dtype=torch.bfloat16)

    def labels(self, count: int, seed: int) -> Labels:
        """Nothing is shared beyond the head."""
        encoder, chance = self._base.asker.encoder, random.Random(seed)
        load = workload.workload(encoder, self._bench, count, 1, RESPONSE, seed)
        texts = [self._critique(chance) for _ in load.items]
        ids = [tuple(self._tokenizer.data(text)) for text in texts]
        return Labels(
            [_event(item, text) for item, text in zip(load.items, texts, strict=True)],
            [self._prompt(item) for item in load.items],
            ids,
        )

    def _prompt(self, item: Item) -> Prompt:
        whole = workload.layout(self._bench, item)
        return self._base.asker.encoder.encode(Layout(whole.sections, whole.conversation, whole.response, ""))

    def _critique(self, chance: random.Random) -> str:
        """In the judge's format, with about CRITIQUE tokens."""
        words = (CRITIQUE - 50) // 4
        points = [f"- {workload.words(chance, words)}. [[{chance.randint(1, 5)}]]\n" for _ in range(4)]
        lists = f"Strengths:\n{points[0]}{points[1]}Shortcomings:\n{points[2]}{points[3]}"
        return f"Overall rating (1 to 5): [[{chance.randint(1, 5)}]]\n{lists}"

    async def served(self, labels: Labels) -> float:
        """Labels per second by the stage's handler."""
        judge = workload.with_scenario(self._base, self._bench)
        await judge.load()
        async with servers.serving(judge) as address, AsyncClient(address) as client:
            scorer = (await client.describe()).current
            stage = Difficulty(client, scorer)
            began = time.perf_counter()
            await _concurrently(stage, labels.events)
            return len(labels.events) / (time.perf_counter() - began)

    def ideal(self, labels: Labels) -> float:
        """Labels per second of the backend alone; the head is held, as it is in the server after its first call."""
        jobs = [
            [LikelihoodJob(prompt, ids), LikelihoodJob(self._alone, ids)]
            for prompt, ids in zip(labels.prompts, labels.critiques, strict=True)
        ]
        began = time.perf_counter()
        for begin in range(0, len(jobs), IDEAL_BATCH):
            self._ideal.start([job for both in jobs[begin : begin + IDEAL_BATCH] for job in both])
        return len(jobs) / (time.perf_counter() - began)

    @torch.inference_mode()
    def one_by_one(self, labels: Labels, sampled: int) -> float:
        both = list(zip(labels.prompts, labels.critiques, strict=True))[:: max(1, len(labels.prompts) // sampled)]
        began = time.perf_counter()
        for prompt, critique in both[:sampled]:
            for before in (prompt, self._alone):
                ids = [token for segment in before.segments for token in segment] + list(critique)
                logits = self._plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
                chances = torch.log_softmax(logits[-len(critique) - 1 : -1].float(), -1)
                chances.gather(1, torch.tensor(critique)[:, None]).sum().item()
        return len(both[:sampled]) / (time.perf_counter() - began)


def _event(item: Item, critique: str) -> ev.Labelled:
    def text(parts: Sequence[object]) -> str:
        return "".join(part.text for part in parts if isinstance(part, Text))

    asked = [text_message(message.role, text(message.parts)) for message in item.messages]
    answer = [text_message(message.role, text(message.parts)) for message in item.response.messages]
    return ev.Labelled(
        id="label",
        instruction=ev.Instruction(id="one", messages=asked, scenario=workload.SCENARIO),
        candidates=[ev.Candidate(id="answer", response=pb.Response(messages=answer))],
        mode=ev.LABEL_MODE_SINGLE,
        critique=critique,
    )


async def _concurrently(stage: Difficulty, events: Sequence[ev.Labelled]) -> None:
    """All of them, CALLERS at a time, as a window of the runner does; each must have got its difficulty."""
    waiting = iter(events)

    async def caller() -> None:
        for event in waiting:
            context = Context("labelled", 0, 0, 0, Deadline.after(HANDLE_S))
            [scored] = await stage.handle(event, context)
            if not scored.HasField("difficulty"):
                raise RuntimeError("a label got no difficulty")

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())


async def run(labels: int, repetitions: int) -> None:
    peers = Peers(str(dequantised(small_model())))
    await peers.open()
    told: dict[str, list[float]] = {"ours": [], "ideal": [], "alone": []}
    seeds = itertools.count(1)
    with Progress(transient=True) as progress:
        for repetition in progress.track(range(-1, repetitions), description="labels"):
            small = repetition < 0  # a short round to warm up
            count = 4 if small else labels
            first, second = (peers.labels(count, next(seeds)) for _ in range(2))
            figures = {
                "ideal": peers.ideal(first),
                "ours": await peers.served(second),
                "alone": peers.one_by_one(second, 1 if small else SAMPLED),
            }
            if not small:
                for name, value in figures.items():
                    told[name].append(value)
    tokens = workload.HEAD + workload.CONVERSATION + RESPONSE
    rows: list[Row] = [
        ratio("limit_share", told["ours"], told["ideal"]),
        ratio("vs_one_by_one", told["ours"], told["alone"]),
        rate("labels_per_s", told["ours"], "labels/s"),
    ]
    report(
        "difficulty",
        rows,
        BARS,
        [
            f"prompts of about {tokens} tokens, {workload.HEAD} of them shared; critiques of about {CRITIQUE} tokens",
            f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, bfloat16",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--labels", type=int, default=LABELS, help="in each repetition")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    arguments = parser.parse_args()
    uvloop.run(run(arguments.labels, arguments.repetitions))


if __name__ == "__main__":
    main()
