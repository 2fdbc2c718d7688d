"""Gates: what is dropped says why by a code, and the seeds that we show as examples pass."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.unit.pipeline.stages_parts import Drops, context
from themis_judge.scenarios import load_scenarios
from themis_pipeline.events import ids
from themis_pipeline.stages.convert import text_message
from themis_pipeline.stages.errors import BadSetting
from themis_pipeline.stages.gate import Gate
from themis_pipeline.stages.gates import Code, Detected, Gates, GateSettings, Rejection, Seen
from themis_pipeline.stages.sources import SourceShares
from themis_pipeline.stages.values import load_questioning
from themis_proto.v1 import events_pb2 as ev


def english(_: str) -> Detected:
    return Detected("en", 0.99)


GATES = Gates(GateSettings(), english)


def rejection(instruction: str, scenario: str, gates: Gates = GATES, **given: bool) -> Rejection | None:
    return gates.look(instruction, scenario, **given).rejection


SEEDS = [(scenario, seed) for scenario, values in load_questioning().items() for seed in values.seeds]


@pytest.mark.parametrize(("scenario", "seed"), SEEDS)
def test_our_own_seeds_pass(scenario: str, seed: str) -> None:
    assert rejection(seed, scenario) is None


def test_instructions_of_the_judges_own_examples_pass() -> None:
    found = [(id, one.instruction) for id, told in load_scenarios().items() for one in told.contrasts.values()]
    assert len(found) > 80
    assert [text for id, text in found if rejection(text, id, by_people=True)] == []


@pytest.mark.parametrize(
    ("instruction", "scenario", "code"),
    [
        ("  \n", "open_qa", Code.EMPTY),
        ("Why?", "open_qa", Code.TOO_SHORT),
        ("Why is it so? " * 1000, "open_qa", Code.TOO_LONG),
        ("What does \x00 mean in a file?", "close_qa", Code.CONTROL_CHARACTERS),
        ("What does caf\ufffd mean?", "close_qa", Code.CONTROL_CHARACTERS),
        ("Explain this: ```\nx = 1", "programming", Code.UNFINISHED),
        ("What are the advantages of the", "close_qa", Code.UNFINISHED),
        ("Write a letter to [insert name] about the rent.", "professional_writing", Code.PLACEHOLDER),
        ("Write a letter to {{recipient}} about the rent.", "professional_writing", Code.PLACEHOLDER),
        ("According to the passage, why did the otter swim?", "close_qa", Code.UNSEEN_MATERIAL),
        ("What does the reference text say about otters?", "close_qa", Code.UNSEEN_MATERIAL),
        ("Translate the sentence into German.", "translation", Code.MISSING_TEXT),
        ("Make this shorter: too long.", "rewriting", Code.MISSING_TEXT),
        ("Describe what you see in the picture above.", "open_qa", Code.NOT_TEXT),
        ("Summarise the attached PDF file for me, please.", "open_qa", Code.NOT_TEXT),
        ("What's the weather today in Oslo?", "open_qa", Code.LIVE_DATA),
        ("Sure, here is an instruction about otters.", "open_qa", Code.WRITERS_REMARK),
        ("Here are five instructions on the subject.", "open_qa", Code.WRITERS_REMARK),
        ("I cannot help with that request, sorry.", "open_qa", Code.WRITERS_REMARK),
    ],
)
def test_an_instruction_is_dropped_for_a_reason_with_a_code(instruction: str, scenario: str, code: Code) -> None:
    found = rejection(instruction, scenario)
    assert found is not None
    assert found.code is code
    assert instruction.strip() not in found.reason or not instruction.strip()


@pytest.mark.parametrize(
    ("instruction", "scenario"),
    [
        ("Otters sleep on their backs.\n\nAccording to the passage, how do otters sleep?", "reading_comprehension"),
        ("Translate «Das Boot ist leider voll» into English.", "translation"),
        ("把下面的句子翻译成英文：今天天气很好，我们去公园散步吧。\n今天天气很好，我们去公园散步吧。", "translation"),
        ("Which file do I have to attach to a visa application?", "close_qa"),
        ("What is a picture frame made of, usually?", "close_qa"),
        ("Build a todo list in a terminal, step by step.", "open_qa"),
        ("Turn [name for name in names if name] into a loop.", "programming"),
        ("Fill {{user}} in a Jinja template from a dictionary.", "programming"),
        ("What day is it 100 days after a Monday?", "math"),
        ("What is a mortar and pestle good for", "open_qa"),
        ("As an AI safety researcher you explain your work to a child.", "role_play"),
        ("I can't write at home, it is too loud. What can I do?", "open_qa"),
        ("How do I put a footnote in the document that I write?", "close_qa"),
    ],
)
def test_what_only_looks_like_a_fault_passes(instruction: str, scenario: str) -> None:
    assert rejection(instruction, scenario, brings_material=scenario == "reading_comprehension") is None


LONG = "Warum schwimmen Otter auf dem Rücken, wenn sie schlafen wollen?"


def test_another_language_is_dropped_where_the_detector_is_sure() -> None:
    asked: list[str] = []

    def german(text: str) -> Detected:
        asked.append(text)
        return Detected("de", 0.95)

    found = Gates(GateSettings(), german).look(f" {LONG} ", "close_qa")
    assert found.rejection is not None
    assert (found.rejection.code, found.rejection.reason) == (Code.LANGUAGE, "is in another language (de)")
    assert asked == [LONG]
    for settings, language in (
        (GateSettings(languages=frozenset({"de"})), "de"),
        (GateSettings(languages=frozenset()), "de"),
        (GateSettings(min_confidence=0.96), ""),
    ):
        assert Gates(settings, german).look(LONG, "close_qa") == Seen(None, language)
    assert Gates(GateSettings(), german).look(f"Translate into English: {LONG}", "translation") == Seen(None, "de")


def test_the_detector_is_not_asked_about_a_few_words() -> None:
    def never(text: str) -> Detected:
        raise AssertionError(text)

    assert Gates(GateSettings(), never).look("Why do otters float?", "close_qa") == Seen(None)


# ------------------------------------------------------------------------------------------------- people's prompts


def prompt(*turns: str, scenario: str = "open_qa", source: str = "tests", id: str = "p1") -> ev.ClassifiedPrompt:
    roles = ("user", "assistant", "user")
    told = ev.NewPrompt(source=source, messages=[text_message(*turn) for turn in zip(roles, turns, strict=False)])
    found = ev.ClassifiedPrompt(id=id, prompt=told, scenario=scenario, scenario_basis=ev.SCENARIO_BASIS_CLASSIFIED)
    found.scenario_probability = 0.5
    found.prompt.reference = "Hi."
    found.provenance.source = source
    return found


async def passed(asked: ev.ClassifiedPrompt, drops: Drops, sources: SourceShares | None = None) -> bool:
    made = await Gate(GATES, sources or SourceShares(), drops).handle(asked, context())
    return bool(made)


async def test_a_prompt_becomes_an_instruction_with_its_language() -> None:
    asked = prompt("Why do otters sleep on their backs in the water?")
    [made] = await Gate(GATES, SourceShares(), Drops()).handle(asked, context())
    assert (made.id, made.made_from) == (ids.derived("p1", "instruction"), "p1")
    assert (made.origin, made.language) == (ev.INSTRUCTION_ORIGIN_PEOPLE, "en")
    assert (made.reference, made.scenario_probability) == ("Hi.", 0.5)
    assert list(made.messages) == list(asked.prompt.messages)


@pytest.mark.parametrize(
    ("turns", "scenario", "code"),
    [
        (("Hm?",), "open_qa", "too_short"),
        (("Write to [insert name] about the rent.",), "professional_writing", "placeholder"),
        (("According to the passage, why did the otter swim?",), "close_qa", "unseen_material"),
        (("According to the passage, why did the otter swim?",), "reading_comprehension", None),
        (("Sure, but what of otters that are old?",), "open_qa", None),
        (("Otters sleep on their backs.", "I see.", "Why?"), "open_qa", None),
        (("An article: otters sleep.", "I see.", "What is said in the passage?"), "close_qa", None),
        (("Otters sleep. " * 50 + "What is said in the passage?",), "close_qa", None),
        (("Translate this into German: the otter sleeps", "Gern.", "Shorter?"), "translation", None),
    ],
)
async def test_peoples_prompts_are_looked_at_as_whole_conversations(
    turns: tuple[str, ...], scenario: str, code: str | None
) -> None:
    drops = Drops()
    assert await passed(prompt(*turns, scenario=scenario), drops) is (code is None)
    assert drops.counts == ({} if code is None else {("gate", code): 1})


async def test_a_source_of_prompts_is_taken_by_its_share() -> None:
    drops, sources = Drops(), SourceShares({"loud": 0.2}, seed=3)
    asked = [prompt("Why do otters sleep?", source=source, id=f"p{n}") for n in range(200) for source in ("loud", "x")]
    taken = Counter([one.provenance.source for one in asked if await passed(one, drops, sources)])
    assert taken["x"] == 200
    assert 20 < taken["loud"] < 60
    assert drops.counts == {("gate", "source_share"): 200 - taken["loud"]}
    again = [one.id for one in asked if await passed(one, Drops(), sources)]
    assert len(again) == sum(taken.values())


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    for wrong in ({"shares": {"x": share}}, {"others": share}):
        with pytest.raises(BadSetting):
            SourceShares(**wrong)
