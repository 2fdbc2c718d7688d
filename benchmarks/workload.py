"""Items with prompts of stated lengths: 350 tokens of static head, 150 of conversation, N of response."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from themis_judge.engines.base import Prompt
from themis_judge.items import Criterion, Item, Message, Response, Rubric
from themis_judge.judge import Judge
from themis_judge.prompts import Layout, Task, single
from themis_judge.scenarios import Scenario
from themis_judge.tokens import Encoder
from themis_proto.v1 import judge_pb2 as pb

HEAD, CONVERSATION = 350, 150
SCENARIO = "bench"
_WORDS = (  # noqa: SIM905 - a list of literals would fill a page
    "the a river stone market engine letter garden mountain number window paper teacher system winter bread light "
    "answer question model reason method result value table street music story water field house family doctor "
    "moves takes gives finds shows keeps brings holds turns makes between without before after under over"
).split()


@dataclass(frozen=True, slots=True)
class Workload:
    """Groups of items that share a conversation; their prompts, in the same order."""

    items: list[Item]
    prompts: list[Prompt]

    def distinct_tokens(self) -> int:
        """Tokens that must be computed when every shared segment is computed once, the head aside."""
        seen = {(p.segments[:1], p.segments[1]) for p in self.prompts}
        return sum(len(segment) for _, segment in seen) + sum(len(p.segments[2]) for p in self.prompts)


def scenario(encoder: Encoder) -> Scenario:
    """A scenario whose head has exactly HEAD tokens."""
    chance = random.Random(0)

    def made(definition: str) -> Scenario:
        criterion = Criterion("bench.one", "It answers what was asked, correctly and in full.", "Answers")
        return Scenario(SCENARIO, "Bench", definition, False, (criterion,), {})

    definition = "Tasks"
    while (size := len(_prompt(encoder, made(definition), "x", "y").segments[0])) < HEAD:
        definition += " " + chance.choice(_WORDS)
    if size != HEAD:
        raise RuntimeError(f"the head has {size} tokens instead of {HEAD}")
    return made(definition)


def workload(encoder: Encoder, bench: Scenario, groups: int, members: int, response: int, seed: int) -> Workload:
    """`groups` conversations with `members` responses each; nothing is shared beyond the conversation."""
    chance = random.Random(seed)
    items, prompts = [], []
    for _ in range(groups):
        user = _fitted(chance, CONVERSATION, lambda text: len(_prompt(encoder, bench, text, "y").segments[1]))
        for _ in range(members):
            text = _fitted(chance, response, lambda text: len(_prompt(encoder, bench, "x", text).segments[2]))
            items.append(Item((Message.of("user", user),), Response.of(text), scenario=SCENARIO))
            prompts.append(_prompt(encoder, bench, user, text))
    return Workload(items, prompts)


def encode(encoder: Encoder, bench: Scenario, item: Item) -> Prompt:
    return encoder.encode(layout(bench, item))


def layout(bench: Scenario, item: Item) -> Layout:
    return single(_task(bench), item.messages, item.response, None)


def words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choice(_WORDS) for _ in range(count))


def request(items: list[Item]) -> pb.ScoreRequest:
    return pb.ScoreRequest(items=[_wire(item) for item in items])


def with_scenario(judge: Judge, bench: Scenario) -> Judge:
    """A judge on the same engine that knows the benchmark's scenario, and takes any label mass."""
    return Judge(judge.engine, {SCENARIO: bench}, replace(judge.settings, label_mass_threshold=0.0))


def _wire(item: Item) -> pb.Item:
    def message(of: Message) -> pb.Message:
        return pb.Message(role=of.role, parts=[pb.Part(text=part.text) for part in of.parts])  # type: ignore[union-attr]

    return pb.Item(
        messages=[message(one) for one in item.messages],
        response=pb.Response(messages=[message(one) for one in item.response.messages]),
        scenario=item.scenario,
    )


def _prompt(encoder: Encoder, bench: Scenario, user: str, response: str) -> Prompt:
    return encode(encoder, bench, Item((Message.of("user", user),), Response.of(response)))


def _task(bench: Scenario) -> Task:
    return Task(
        name=bench.name,
        definition=bench.definition,
        rubric=Rubric(bench.criteria),
        custom=False,
        paper_order=False,
        reason_first=False,
        with_reference=False,
    )


def _fitted(chance: random.Random, tokens: int, measure: Callable[[str], int]) -> str:
    """Random words whose segment has `tokens` tokens."""
    words = [chance.choice(_WORDS)]
    step = tokens // 2
    while step:
        grown = words + [chance.choice(_WORDS) for _ in range(step)]
        if measure(" ".join(grown)) <= tokens:
            words = grown
        else:
            step //= 2
    while measure(" ".join(words)) < tokens:
        words.append("a")
    return " ".join(words)
