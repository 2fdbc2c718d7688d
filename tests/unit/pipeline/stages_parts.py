"""What the tests of the stages' handlers share: a model that answers as told, and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from themis_judge.engines.base import Deadline
from themis_pipeline.llm.calls import CallContext, CallKey, Completion, Request
from themis_pipeline.stages.asking import Asker, Model, Sampling
from themis_pipeline.stages.code import CodeLimits, CodeRunner
from themis_pipeline.stages.convert import text_message
from themis_pipeline.stages.gates import Detected, Gates, GateSettings
from themis_pipeline.stages.seam import Context
from themis_proto.v1 import events_pb2 as ev

Answer = Callable[[Request, CallKey], str]
WRITER = Model("writer", "writer-7b", "sample")


@dataclass
class ToldLLM:
    """Answers by a function, which may raise, and keeps what it was asked."""

    answer: Answer
    asked: list[tuple[CallKey, Request]] = field(default_factory=list)

    async def complete(self, request: Request, context: CallContext) -> Completion:
        assert context.deadline.remaining_s() < 1000
        self.asked.append((context.key, request))
        text = self.answer(request, context.key)
        return completion(text, request.endpoint)


def completion(text: str, endpoint: str = "writer") -> Completion:
    return Completion(text, "stop", endpoint, f"{endpoint}-7b", 1, 1, 1)


@dataclass
class Drops:
    """Counts what is dropped."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __call__(self, stage: str, code: str) -> None:
        self.counts[stage, code] += 1


def context(offset: int = 7) -> Context:
    return Context("a-topic", 3, offset, 1_700_000_000_123, Deadline.after(60))


def asker(llm: ToldLLM, stage: str, tries: int = 3) -> Asker:
    return Asker(llm, stage, Sampling(max_tokens=100, temperature=0.0, retry_temperature=0.5, tries=tries))


def english_gates() -> Gates:
    return Gates(GateSettings(), lambda _: Detected("en", 1.0))


def runner(wall_s: float = 10.0, cpu_s: int = 5) -> CodeRunner:
    return CodeRunner(CodeLimits(wall_s=wall_s, cpu_s=cpu_s))


def instruction(scenario: str = "open_qa", text: str = "What floats on water?", **fields: Any) -> ev.Instruction:
    found = ev.Instruction(
        id="instruction-1",
        made_from="plan-1",
        messages=[text_message("user", text)],
        scenario=scenario,
        provenance=ev.Provenance(source="tests"),
        **fields,
    )
    found.at.FromSeconds(5)
    return found
