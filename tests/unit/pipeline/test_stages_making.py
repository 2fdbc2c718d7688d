"""The handlers that make instructions and responses: events in, events out, the same whenever they are repeated."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.pipeline.stages_parts import (
    WRITER,
    Drops,
    ToldLLM,
    asker,
    completion,
    context,
    english_gates,
    instruction,
    runner,
)
from themis_judge.scenarios import load_scenarios
from themis_pipeline.events import ids
from themis_pipeline.llm.calls import CallKey, Request
from themis_pipeline.llm.errors import CutShort, RateLimited, Refused, SameLineage
from themis_pipeline.runner.stage import Reject, Retry
from themis_pipeline.stages.altering import Altering
from themis_pipeline.stages.asking import Model
from themis_pipeline.stages.errors import BadSetting
from themis_pipeline.stages.plan import MAX_TEXT_CHARS, Plan, Planner, PlanSettings
from themis_pipeline.stages.question import Question
from themis_pipeline.stages.quiz import Quizzes
from themis_pipeline.stages.respond import Respond
from themis_pipeline.stages.sources import PLANS_SOURCE, SourceShares
from themis_pipeline.stages.values import (
    load_fillers,
    load_opposites,
    load_questioning,
    load_quizzing,
    load_suffixes,
)
from themis_proto.v1 import events_pb2 as ev

SCENARIOS = load_scenarios()
TEXT = ev.ReferenceText(id="t1", source="tests", text="Otters sleep on their backs.", licence="CC0")
MODELS = [Model(f"m{n}", f"m{n}-7b", "sample", weight=1 + n) for n in range(6)]


async def plans(**shares: int) -> list[ev.Plan]:
    planner = Planner(PlanSettings(1, shares), load_questioning(), load_quizzing())
    return list(await Plan(planner, SourceShares(), Drops()).handle(TEXT, context()))


# --------------------------------------------------------------------------------------------------------- plans


async def test_a_text_gives_plans_with_ids_of_their_own() -> None:
    made = await plans(close_qa=10, math=3)
    assert Counter(plan.scenario for plan in made) == {"close_qa": 2, "math": 3}
    assert len({plan.id for plan in made}) == 5
    assert made == await plans(close_qa=10, math=3)
    for plan in made:
        assert plan.at.ToMilliseconds() == 1_700_000_000_123
        if plan.scenario == "math":
            assert plan.quiz.topic in load_quizzing()["math"].subjects[plan.quiz.subject]
            assert plan.provenance.source == PLANS_SOURCE
        else:
            assert (plan.question.reference, plan.question.instructions) == (TEXT, 5)
            assert (plan.provenance.source, plan.provenance.licence) == ("tests", "CC0")


def planning(drops: Drops, share: float = 1.0) -> Plan:
    planner = Planner(PlanSettings(1, {"close_qa": 1, "open_qa": 1, "math": 1}), load_questioning(), load_quizzing())
    return Plan(planner, SourceShares({"few": share}), drops)


async def test_a_text_that_suits_some_scenarios_plans_those() -> None:
    text = ev.ReferenceText(source="tests", text="x", scenarios=["open_qa"])
    made = await planning(Drops()).handle(text, context())
    assert {plan.scenario for plan in made} == {"open_qa", "math"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (ev.ReferenceText(text="x"), "source"),
        (ev.ReferenceText(text="x", source=PLANS_SOURCE), "source"),
        (ev.ReferenceText(source="s", text=" "), "text"),
        (ev.ReferenceText(source="s", text="x" * (MAX_TEXT_CHARS + 1)), "text_too_long"),
        (ev.ReferenceText(source="s", text="x", scenarios=["poetry"]), "scenarios"),
        (ev.ReferenceText(source="s", text="x", scenarios=["math"]), "scenarios"),
    ],
)
async def test_a_text_that_makes_no_sense_is_rejected(text: ev.ReferenceText, code: str) -> None:
    with pytest.raises(Reject) as refused:
        await planning(Drops()).handle(text, context())
    assert refused.value.code == code


async def test_a_source_of_texts_is_taken_by_its_share() -> None:
    drops, taken = Drops(), 0
    stage = planning(drops, share=0.25)
    for number in range(200):
        text = ev.ReferenceText(id=str(number), source="few", text="x")
        taken += bool(await stage.handle(text, context()))
    assert 30 < taken < 70
    assert drops.counts == {("plan", "source_share"): 200 - taken}


# -------------------------------------------------------------------------------------------------- instructions

FIVE = "".join(f"=== Instruction {n} ===\nWhy do otters of the northern seas like number {n}?\n" for n in range(1, 6))


def questions(llm: ToldLLM, drops: Drops) -> Question:
    return Question(SCENARIOS, load_questioning(), asker(llm, "question"), WRITER, english_gates(), drops)


async def test_a_plan_gives_the_instructions_that_pass() -> None:
    llm, drops = ToldLLM(lambda *_: FIVE.replace("number 2", "the attached picture file, or [insert name]")), Drops()
    [plan] = await plans(close_qa=5)
    made = await questions(llm, drops).handle(plan, context())
    assert [one.index for one in made] == [0, 2, 3, 4]
    assert [one.id for one in made] == [ids.derived(plan.id, "instruction", index) for index in (0, 2, 3, 4)]
    assert {one.made_from for one in made} == {plan.id}
    assert made[1].messages[0].parts[0].text == "Why do otters of the northern seas like number 3?"
    assert (made[0].scenario, made[0].scenario_basis) == ("close_qa", ev.SCENARIO_BASIS_CONSTRUCTED)
    assert made[0].provenance.generator == ev.ModelRef(name="writer-7b", endpoint="writer", lineage="sample")
    assert len(made[0].provenance.template_digest) == 64
    assert drops.counts == {("question", "placeholder"): 1}
    assert {one.language for one in made} == {"en"}
    assert "Otters sleep" in llm.asked[0][1].messages[0].content


async def test_instructions_of_one_template_say_the_same_digest() -> None:
    digests = set()
    for text in ("Otters sleep.", "Corks float."):
        planner = Planner(PlanSettings(1, {"close_qa": 5, "open_qa": 5}), load_questioning(), load_quizzing())
        told = ev.ReferenceText(source="tests", text=text)
        for plan in await Plan(planner, SourceShares(), Drops()).handle(told, context()):
            made = await questions(ToldLLM(lambda *_: FIVE), Drops()).handle(plan, context())
            digests.add((plan.scenario, made[0].provenance.template_digest))
    assert len(digests) == 2


async def test_siblings_are_told_of_the_one_that_is_least_like_them() -> None:
    asked = (
        "Why do otters float on their backs?",
        "Why do otters float on their backs at night?",
        "Which trees bear cork?",
        "Name two dyes that come from insects, [insert name].",
        "How long did the siege of Malta take?",
    )
    answer = "".join(f"=== Instruction {n} ===\n{text}\n" for n, text in enumerate(asked, 1))
    [plan] = await plans(close_qa=5)
    made = await questions(ToldLLM(lambda *_: answer), Drops()).handle(plan, context())
    assert [one.index for one in made] == [0, 1, 2, 4]
    by_id = {one.id: one.index for one in made}
    for one in made:
        assert one.sibling.text == asked[by_id[one.sibling.id]]
        assert one.sibling.id != one.id
    assert {by_id[one.sibling.id] for one in made[:2]} <= {2, 4}

    alike = "".join(f"=== Instruction {n} ===\nWhy do otters float in winter number {n}?\n" for n in range(1, 6))
    made = await questions(ToldLLM(lambda *_: alike), Drops()).handle(plan, context())
    assert not any(one.HasField("sibling") for one in made)


async def test_an_answer_that_can_not_be_read_is_asked_for_anew_under_another_index() -> None:
    llm = ToldLLM(lambda _, key: FIVE if key.attempt == 2 else "Here you are.")
    [plan] = await plans(close_qa=5)
    assert len(await questions(llm, Drops()).handle(plan, context())) == 5
    assert [(key, request.temperature) for key, request in llm.asked] == [
        (CallKey(plan.id, "question", 0), 0.0),
        (CallKey(plan.id, "question", 0, 1), 0.5),
        (CallKey(plan.id, "question", 0, 2), 0.5),
    ]


async def test_what_can_never_be_read_is_rejected_with_its_code() -> None:
    def cut(_: Request, key: CallKey) -> str:
        if key.attempt == 2:
            raise CutShort("cut", completion("=== Ins"))
        return "Here you are."

    [plan] = await plans(close_qa=5)
    for answer, code in ((cut, "unreadable_CutShort"), (lambda *_: "no", "unreadable_headings")):
        llm = ToldLLM(answer)
        with pytest.raises(Reject) as refused:
            await questions(llm, Drops()).handle(plan, context())
        assert refused.value.code == code
        assert len(llm.asked) == 3


async def test_an_endpoint_that_wants_patience_gets_it_and_a_refusal_is_final() -> None:
    def busy(*_: object) -> str:
        raise RateLimited("wait", 12.5)

    def refuse(*_: object) -> str:
        raise Refused("no")

    [plan] = await plans(close_qa=5)
    with pytest.raises(Retry) as later:
        await questions(ToldLLM(busy), Drops()).handle(plan, context())
    assert (later.value.after_s, later.value.code) == (12.5, "RateLimited")
    with pytest.raises(Reject) as refused:
        await questions(ToldLLM(refuse), Drops()).handle(plan, context())
    assert refused.value.code == "Refused"


async def test_a_teacher_of_the_judges_lineage_is_no_matter_of_one_record() -> None:
    def kin(*_: object) -> str:
        raise SameLineage("no")

    [plan] = await plans(close_qa=5)
    with pytest.raises(SameLineage):  # never a dead letter: the process ends
        await questions(ToldLLM(kin), Drops()).handle(plan, context())


async def test_equal_prompts_of_different_inputs_are_sampled_apart_and_a_repeat_alike() -> None:
    [plan] = await plans(math=1)
    other = ev.Plan()
    other.CopyFrom(plan)
    other.id = "other"
    seeds = []
    for one in (plan, other, plan):
        llm = ToldLLM(lambda *_: "=== Question ===\nWhat is 2 + 2, and why?\n=== Answer ===\n4\n")
        await Quizzes(SCENARIOS, asker(llm, "quiz"), WRITER, english_gates(), None, Drops()).handle(one, context())
        seeds.append(llm.asked[0][1].seed)
    assert seeds[0] == seeds[2] != seeds[1]


async def test_more_tries_ask_anew_and_repeat_no_other_call() -> None:
    [plan] = await plans(close_qa=5)
    asked = {}
    for tries in (2, 4):
        llm = ToldLLM(lambda *_: "Here you are.")
        stage = replace(questions(llm, Drops()), asker=asker(llm, "question", tries))
        with pytest.raises(Reject):
            await stage.handle(plan, context())
        asked[tries] = llm.asked
    assert asked[4][:2] == asked[2]


QUIZ = """=== Question ===
Write a Python function `double(x)` that returns twice x.
=== Answer ===
```python
def double(x):
    return x * 2
```
=== Test ===
assert double(3) == 6
"""


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (QUIZ, None),
        (QUIZ.replace("x * 2", "x * 3"), "answer_fails_test"),
        (QUIZ.replace("double(3) == 6", "int('6') == 6"), "empty_test"),
        (QUIZ.replace("Write a Python function", "Look at the attached file and write"), "not_text"),
    ],
)
async def test_a_quiz_is_kept_if_its_answer_passes_its_test(answer: str, code: str | None) -> None:
    llm, drops = ToldLLM(lambda *_: answer), Drops()
    stage = Quizzes(SCENARIOS, asker(llm, "quiz"), WRITER, english_gates(), runner(), drops)
    [plan] = await plans(programming=1)
    made = await stage.handle(plan, context())
    if code is not None:
        assert not made
        assert drops.counts == {("quiz", code): 1}
        return
    [one] = made
    assert one.test_code == "assert double(3) == 6\n"
    assert one.reference.startswith("```python\ndef double")
    assert one.origin == ev.INSTRUCTION_ORIGIN_QUIZ
    assert f"Topic: {plan.quiz.topic}\n" in llm.asked[0][1].messages[0].content


async def test_without_a_runner_no_code_runs_and_no_test_goes_on(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    answer = QUIZ.replace("def double", f"open({str(trace)!r}, 'w').close()\ndef double", 1)
    stage = Quizzes(SCENARIOS, asker(ToldLLM(lambda *_: answer), "quiz"), WRITER, english_gates(), None, Drops())
    [plan] = await plans(programming=1)
    [made] = await stage.handle(plan, context())
    assert not trace.exists()
    assert not made.HasField("test_code")


async def test_each_handler_refuses_the_others_plans() -> None:
    question, quiz = await plans(close_qa=5), await plans(math=1)
    llm = ToldLLM(lambda *_: FIVE)
    stage = Quizzes(SCENARIOS, asker(llm, "quiz"), WRITER, english_gates(), runner(), Drops())
    with pytest.raises(Reject):
        await stage.handle(question[0], context())
    with pytest.raises(Reject):
        await questions(llm, Drops()).handle(quiz[0], context())
    assert not llm.asked


# ----------------------------------------------------------------------------------------------------- responses


def respond(llm: ToldLLM, drops: Drops, **counts: int) -> Respond:
    standard = {one.id for one in SCENARIOS.values() if one.reference}
    altering = Altering(standard, load_opposites(), load_suffixes(), load_fillers(), runner())
    return Respond(asker(llm, "respond"), MODELS, altering, drops, **counts)


LONG = "Wood floats since it weighs less than the water that it displaces. Cork does so even more. " * 4


def by_model(request: Request, key: CallKey) -> str:
    return f"{LONG} So says {request.endpoint} about {key.input_id} in call {key.index}."


async def test_as_many_models_answer_as_are_asked_for() -> None:
    llm = ToldLLM(by_model)
    [made] = await respond(llm, Drops(), responses=3).handle(instruction(), context())
    answered = [one for one in made.candidates if one.method == ev.RESPONSE_METHOD_ANSWERED]
    assert len({one.generator.endpoint for one in answered}) == 3
    assert {key for key, _ in llm.asked} == {
        CallKey("instruction-1", "respond", int(one.generator.endpoint[1:])) for one in answered
    }
    assert [made] == await respond(llm, Drops(), responses=3).handle(instruction(), context())


async def test_an_injected_suffix_makes_the_worse_of_two() -> None:
    llm = ToldLLM(by_model)
    [made] = await respond(llm, Drops(), responses=2).handle(instruction(), context())
    [order] = made.known_orders
    by_id = {one.id: one for one in made.candidates}
    better, worse = by_id[order.better], by_id[order.worse]
    assert (worse.method, worse.made_from) == (ev.RESPONSE_METHOD_INJECTED_SUFFIX, better.id)
    assert worse.response.messages[0].parts[0].text.endswith(load_suffixes())
    assert worse.generator == better.generator


async def test_an_instructions_own_answer_gives_pairs_too() -> None:
    code = "def double(x):\n    return x * 2\n"
    asked = instruction(
        "programming",
        "Write double(x).",
        reference=code,
        test_code="assert double(3) == 6",
        origin=ev.INSTRUCTION_ORIGIN_QUIZ,
    )
    [made] = await respond(ToldLLM(by_model), Drops(), responses=2).handle(asked, context())
    by_id = {one.id: one for one in made.candidates}
    [worse] = [one for one in made.candidates if one.method == ev.RESPONSE_METHOD_FAILS_TEST]
    assert by_id[worse.made_from].response.messages[0].parts[0].text == code
    right = instruction("close_qa", "When was it built?", reference="The bridge was built in 1932.")
    [made] = await respond(ToldLLM(by_model), Drops(), responses=2).handle(right, context())
    [worse] = [one for one in made.candidates if one.method == ev.RESPONSE_METHOD_CORRUPTED_FACT]
    assert worse.response.messages[0].parts[0].text == "The bridge was built in 1942."
    assert len({one.id for one in made.candidates}) == len(made.candidates)


async def test_a_model_without_a_text_is_passed_over_and_too_few_are_no_set() -> None:
    def silent(request: Request, _: CallKey) -> str:
        if request.endpoint != "m5":
            raise CutShort("cut", completion(""))
        return LONG

    drops = Drops()
    [made] = await respond(ToldLLM(silent), drops, responses=6, min_responses=1).handle(instruction(), context())
    assert {one.generator.endpoint for one in made.candidates} == {"m5"}
    assert drops.counts == {("respond", "CutShort"): 5}
    with pytest.raises(Reject, match="1 of 2"):
        await respond(ToldLLM(silent), drops, responses=6, min_responses=2).handle(instruction(), context())


async def test_a_replay_lets_models_without_a_text_try_again() -> None:
    def silent_once(request: Request, key: CallKey) -> str:
        if key.attempt == 0:
            raise CutShort("cut", completion(""))
        return f"{LONG} {request.endpoint}"

    told = ToldLLM(silent_once)
    with pytest.raises(Reject, match="too_few_responses"):
        await respond(told, Drops(), responses=2, min_responses=2).handle(instruction(), context())
    again = replace(context(), replays=1)
    [made] = await respond(told, Drops(), responses=2, min_responses=2).handle(instruction(), again)
    assert len([one for one in made.candidates if one.method == ev.RESPONSE_METHOD_ANSWERED]) == 2


async def test_a_few_models_answer_several_times_and_those_without_weight_never() -> None:
    models = [Model("a", "a", "x"), Model("b", "b", "x"), Model("never", "n", "x", weight=0)]
    stage = replace(respond(ToldLLM(by_model), Drops(), responses=5), models=models)
    [made] = await stage.handle(instruction(), context())
    answered = [one for one in made.candidates if one.method == ev.RESPONSE_METHOD_ANSWERED]
    assert sorted(Counter(one.generator.endpoint for one in answered).items()) in (
        [("a", 2), ("b", 3)],
        [("a", 3), ("b", 2)],
    )
    assert len({one.id for one in answered}) == 5
    for wrong in ({"models": models[2:]}, {"min_responses": 6}, {"min_responses": 0}):
        with pytest.raises(BadSetting):
            replace(stage, **wrong)


async def test_the_same_answer_twice_is_one() -> None:
    drops = Drops()
    llm = ToldLLM(lambda request, _: LONG if request.endpoint != "m5" else f" {LONG}Else.")
    [made] = await respond(llm, drops, responses=6).handle(instruction(), context())
    assert sum(one.method == ev.RESPONSE_METHOD_ANSWERED for one in made.candidates) == 2
    assert drops.counts == {("respond", "same_answer"): 4}


async def test_what_is_put_off_is_counted_once_it_is_done() -> None:
    busy = True

    def some(request: Request, key: CallKey) -> str:
        if request.endpoint == "m5":
            raise CutShort("cut", completion(""))
        if busy and request.endpoint == "m4":
            raise RateLimited("wait", 1)
        return by_model(request, key)

    drops = Drops()
    stage = respond(ToldLLM(some), drops, responses=6)
    with pytest.raises(Retry):
        await stage.handle(instruction(), context())
    busy = False
    await stage.handle(instruction(), context())
    assert drops.counts == {("respond", "CutShort"): 1}


async def test_a_replay_asks_models_without_a_text_again_and_says_how() -> None:
    def late(request: Request, key: CallKey) -> str:
        if request.endpoint != "m5" and not key.attempt:
            raise CutShort("cut", completion(""))
        return by_model(request, key)

    stage = respond(ToldLLM(late), Drops(), responses=6, min_responses=6)
    with pytest.raises(Reject, match="1 of 6"):
        await stage.handle(instruction(), context())
    [made] = await stage.handle(instruction(), replace(context(), replays=1))
    told = {one.generator.endpoint: one.temperature for one in made.candidates if one.HasField("temperature")}
    assert told == {f"m{n}": 0.5 for n in range(5)} | {"m5": 0.0}


async def test_a_siblings_answer_is_the_one_that_its_own_handling_asks_for() -> None:
    first, second = instruction(), instruction(text="Who invented the cork?")
    second.id = "instruction-2"
    first.sibling.CopyFrom(ev.Sibling(id=second.id, text="Who invented the cork?"))
    llm, theirs = ToldLLM(by_model), ToldLLM(by_model)
    [made] = await respond(llm, Drops(), responses=3).handle(first, context())
    [other] = await respond(theirs, Drops(), responses=3).handle(second, context())
    [worse] = [one for one in made.candidates if one.method == ev.RESPONSE_METHOD_SIBLING]
    assert worse.made_from in {one.id for one in other.candidates}
    assert worse.generator == next(one.generator for one in other.candidates if one.id == worse.made_from)
    shared = [(key, request) for key, request in llm.asked if key.input_id == second.id]
    assert len(shared) == 1
    assert shared[0] in theirs.asked  # key and request, so that the journal has it
    assert made.known_orders[1].worse == worse.id


async def test_facts_are_corrupted_where_there_is_a_standard_answer_only() -> None:
    for scenario, count in (("close_qa", 1), ("open_qa", 0)):
        asked = instruction(scenario, reference="It was built in 1932.")
        [made] = await respond(ToldLLM(by_model), Drops()).handle(asked, context())
        methods = Counter(one.method for one in made.candidates)
        assert methods[ev.RESPONSE_METHOD_CORRUPTED_FACT] == count


@pytest.mark.parametrize("origin", [ev.INSTRUCTION_ORIGIN_PEOPLE, ev.INSTRUCTION_ORIGIN_QUESTION])
async def test_code_that_no_template_of_ours_asked_for_is_not_run(
    origin: ev.InstructionOrigin.ValueType, tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    code = f"open({str(trace)!r}, 'w').close()\nx = 1\n"
    asked = instruction("programming", "Write x.", reference=code, test_code="assert x == 1", origin=origin)
    [made] = await respond(ToldLLM(by_model), Drops()).handle(asked, context())
    assert not trace.exists()
    assert all(one.method != ev.RESPONSE_METHOD_FAILS_TEST for one in made.candidates)


@pytest.mark.parametrize("role", ["tool", "assistant"])
async def test_a_conversation_that_nobody_can_answer_is_rejected(role: str) -> None:
    asked = instruction()
    asked.messages[0].role = role
    with pytest.raises(Reject, match="role"):
        await respond(ToldLLM(lambda *_: LONG), Drops()).handle(asked, context())
