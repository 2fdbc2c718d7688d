"""All stages from a text to labels, one event at a time: in whatever order, by whatever process, it is the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from google.protobuf.message import Message

from tests.unit.pipeline.stages_parts import WRITER, Drops, ToldLLM, asker, context, english_gates, runner
from themis_judge.scenarios import load_scenarios
from themis_pipeline.llm.calls import CallKey, Request
from themis_pipeline.stages.altering import Altering
from themis_pipeline.stages.asking import Model
from themis_pipeline.stages.evaluation import Form
from themis_pipeline.stages.gate import Gate
from themis_pipeline.stages.label import Label
from themis_pipeline.stages.plan import Plan, Planner, PlanSettings
from themis_pipeline.stages.question import Question
from themis_pipeline.stages.quiz import Quizzes
from themis_pipeline.stages.respond import Respond
from themis_pipeline.stages.sources import SourceShares
from themis_pipeline.stages.tasks import Tasks
from themis_pipeline.stages.values import (
    load_fillers,
    load_opposites,
    load_questioning,
    load_quizzing,
    load_suffixes,
)
from themis_proto.v1 import events_pb2 as ev

SCENARIOS = load_scenarios()
QUESTIONING, QUIZZING = load_questioning(), load_quizzing()
OPPOSITES, SUFFIXES, FILLERS = load_opposites(), load_suffixes(), load_fillers()
ASKED = (
    "How do otters sleep",
    "Which trees bear cork",
    "Who cast the first church bells",
    "Why are salt mines so dry",
    "Where do people fly paper kites",
)
MODELS = [Model(f"m{n}", f"m{n}-7b", "sample", weight=1 + n) for n in range(4)]
SENTENCE = "It has been so for a long time and nobody has found a reason to change it since 1932. "


def says(request: Request, key: CallKey) -> str:
    """Depends on the call alone."""
    prompt = request.messages[0].content
    if key.stage == "label":
        pairwise, order = "Response B:" in prompt, prompt.find("m1-7b") < prompt.find("m2-7b")
        choice = "C" if "m1-7b" not in prompt or "m2-7b" not in prompt else "AB"[order]
        single = "Overall rating (1 to 5): [[4]]\nStrengths:\n- Right. {1} [[5]]\nShortcomings:\n- Dry. {0} [[3]]\n"
        return f"Better response: [[{choice}]]" if pairwise else single
    if key.stage == "question":
        count = prompt.count("=== Instruction")
        text = "".join(f"=== Instruction {n} ===\n{one}, {key.input_id}?\n" for n, one in enumerate(ASKED, 1))
        return text if count == 5 else text.partition("=== Instruction 2")[0]
    if key.stage == "quiz":
        return f"=== Question ===\nWhat is 2 + 2 in {key.input_id}?\n=== Answer ===\nIt is 4 and not 7.\n"
    return f"{SENTENCE * (2 + request.seed % 3 if request.seed else 2)} So says {request.endpoint}-7b of {prompt}"


class World:
    """Handlers of one process, with an LLM of its own."""

    def __init__(self) -> None:
        self.llm = ToldLLM(says)
        gates, drops, code = english_gates(), Drops(), runner()
        planner = Planner(PlanSettings(3, {"open_qa": 6, "close_qa": 5, "math": 2}), QUESTIONING, QUIZZING)
        standard = {one.id for one in SCENARIOS.values() if one.reference}
        altering = Altering(standard, OPPOSITES, SUFFIXES, FILLERS, code)
        teacher = Model("teacher", "big", "other")
        handlers: dict[Callable[[Any], bool], Any] = {
            lambda event: isinstance(event, ev.ReferenceText): Plan(planner, SourceShares(), drops),
            lambda event: isinstance(event, ev.ClassifiedPrompt): Gate(gates, SourceShares(), drops),
            lambda event: isinstance(event, ev.Plan) and event.HasField("question"): Question(
                SCENARIOS, QUESTIONING, asker(self.llm, "question"), WRITER, gates, drops
            ),
            lambda event: isinstance(event, ev.Plan) and event.HasField("quiz"): Quizzes(
                SCENARIOS, asker(self.llm, "quiz"), WRITER, gates, code, drops
            ),
            lambda event: isinstance(event, ev.Instruction): Respond(
                asker(self.llm, "respond"), MODELS, altering, drops, responses=3
            ),
            lambda event: isinstance(event, ev.ResponseSet): Label(
                SCENARIOS, asker(self.llm, "label"), teacher, "judge", Form(), Tasks(0.5), drops
            ),
        }
        self.handlers = handlers

    async def handle(self, event: Message) -> Sequence[Message]:
        for takes, handler in self.handlers.items():
            if takes(event):
                return list(await handler.handle(event, context()))
        return []


async def stream(inputs: Iterable[Message], order: random.Random, world: Callable[[], World]) -> dict[str, Message]:
    """All events that come of the inputs, by id; `world` is asked for a process for each of them."""
    waiting, found = list(inputs), {}
    while waiting:
        made = await world().handle(waiting.pop(order.randrange(len(waiting))))
        for event in made:
            id = str(getattr(event, "id", ""))
            assert id not in found
            found[id] = event
        waiting += made
    return found


def inputs() -> list[Message]:
    texts = [ev.ReferenceText(id=str(n), source="tests", text=f"Text {n}.") for n in range(2)]
    told = ev.NewPrompt(source="tests", text="How do I carry a kite on a bicycle?")
    prompt = ev.ClassifiedPrompt(id="prompt", prompt=told, scenario="open_qa", scenario_basis=ev.SCENARIO_BASIS_GIVEN)
    return [*texts, prompt]


async def test_order_and_processes_change_nothing() -> None:
    one = World()
    first = await stream(inputs(), random.Random(1), lambda: one)
    assert await stream(inputs(), random.Random(2), World) == first

    instructions = [event for event in first.values() if isinstance(event, ev.Instruction)]
    assert len(instructions) == 2 * (6 + 5 + 2) + 1
    sets = {event.instruction.id: event for event in first.values() if isinstance(event, ev.ResponseSet)}
    assert set(sets) == {one.id for one in instructions}
    labels = [event for event in first.values() if isinstance(event, ev.Labelled)]
    assert {one.labeller for one in labels} == {ev.LABELLER_TEACHER, ev.LABELLER_CONSTRUCTION}
    assert any(isinstance(event, ev.AnnotationTask) for event in first.values())

    worse = [one for made in sets.values() for one in made.candidates if one.method == ev.RESPONSE_METHOD_SIBLING]
    assert len(worse) > 10
    everybody = {one.id: one for made in sets.values() for one in made.candidates}
    for candidate in worse:
        theirs = everybody[candidate.made_from]  # it is really there, in the sibling's own set
        assert theirs.generator == candidate.generator
        assert theirs.response.messages[0].parts[0].text[:60] == candidate.response.messages[0].parts[0].text[:60]

    methods = {one.method for one in everybody.values()}
    assert methods >= {ev.RESPONSE_METHOD_INJECTED_SUFFIX, ev.RESPONSE_METHOD_CORRUPTED_FACT}
    assert {one.length_change for one in everybody.values()} >= {ev.LENGTH_CHANGE_SHORTENED, ev.LENGTH_CHANGE_PADDED}


async def test_pairs_come_in_both_orders_and_lengths_are_matched() -> None:
    found = await stream(inputs(), random.Random(1), World)
    pairs: dict[str, list[ev.Labelled]] = {}
    for event in found.values():
        if isinstance(event, ev.Labelled) and event.mode == ev.LABEL_MODE_PAIRWISE:
            pairs.setdefault(event.pair, []).append(event)
    assert pairs
    for orders in pairs.values():
        first, second = sorted(orders, key=lambda one: one.swapped)
        assert [one.id for one in first.candidates] == [one.id for one in second.candidates][::-1]
        if first.labeller == ev.LABELLER_CONSTRUCTION:
            better, worse = (len(one.response.messages[0].parts[0].text) for one in first.candidates)
            assert worse == pytest.approx(better, rel=0.1)


async def test_calls_are_counted_by_what_they_are_for() -> None:
    """Three answers for each instruction, and none for a sibling that its own handling doesn't ask for as well."""
    world = World()
    found = await stream(inputs(), random.Random(1), lambda: world)
    instructions = sum(isinstance(event, ev.Instruction) for event in found.values())
    keys = [key for key, _ in world.llm.asked if key.stage == "respond"]
    assert len(set(keys)) == 3 * instructions
    requests = dict(world.llm.asked)
    assert all(requests[key] == request for key, request in world.llm.asked)
