"""The judge on a real instruct model, small enough for any machine. It has little judgement: what is tested is that
its numbers are the model's own, that equal work is done once, and that every mode comes back whole."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from themis_judge import (
    Comparison,
    CritiqueMode,
    Item,
    Judge,
    JudgeSettings,
    Message,
    Options,
    ReasoningMode,
    Response,
    Result,
    Status,
)
from themis_judge.engines.base import NO_DEADLINE, Deadline, Labels, LabelScores, Prompt
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings

CAPITAL = "What is the capital of France?"
SUM = "What is 12 plus 30?"


class NotingEngine(TransformersEngine):
    """Notes the prompts whose labels it is asked for."""

    def __init__(self, settings: TransformersSettings) -> None:
        super().__init__(settings)
        self.asked: list[tuple[Prompt, Labels]] = []

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        self.asked.append((prompt, labels))
        return await super().label_logprobs(prompt, labels, deadline)


@pytest.fixture(scope="module")
def shared_judge(small_model: Path) -> Iterator[Judge]:
    # Beside other programs two threads that wait for each other may be many times slower than one.
    engine = NotingEngine(TransformersSettings(str(small_model), dtype="float32", threads=1))
    # The model is unsure of the format; what is tested here is not its verdict.
    judge = Judge(engine, settings=JudgeSettings(label_mass_threshold=0.02))
    asyncio.run(judge.load())
    yield judge
    asyncio.run(judge.unload())


@pytest.fixture
def judge(shared_judge: Judge) -> Judge:
    noted(shared_judge).asked.clear()
    return shared_judge


def noted(judge: Judge) -> NotingEngine:
    assert isinstance(judge.engine, NotingEngine)
    return judge.engine


def item(instruction: str, response: str, scenario: str = "close_qa") -> Item:
    return Item((Message.of("user", instruction),), Response.of(response), scenario=scenario)


def probabilities(result: Result) -> tuple[float, ...]:
    assert result.status is Status.OK, result.error
    assert result.verdict is not None
    assert result.verdict.rating.probabilities is not None
    return result.verdict.rating.probabilities


@torch.inference_mode()
def plain(network: Any, prompt: Prompt, labels: Labels) -> list[float]:
    """Probabilities of single-token labels after a prompt, by transformers alone."""
    ids = [token for segment in prompt.segments for token in segment]
    row = torch.softmax(network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1], -1)
    assert all(len(label) == 1 for label in labels.sequences)
    return [float(row[label[0]]) for label in labels.sequences]


async def test_a_batch_gives_the_probabilities_of_plain_passes(judge: Judge, small_model: Path) -> None:
    items = [
        item(CAPITAL, "Paris."),
        item(CAPITAL, "The capital of France is Lyon, " + "a large city on the Rhone, " * 9 + "I believe."),
        item(SUM, "12 plus 30 is 42.", "math"),
        item(SUM, "It is 33, since 1 + 2 + 30 = 33.", "math"),
    ]
    results = await judge.score_all(items)
    engine = noted(judge)
    assert len(engine.asked) == len(items)
    network = AutoModelForCausalLM.from_pretrained(small_model, dtype=torch.float32)
    for result, (prompt, labels) in zip(results, engine.asked, strict=True):
        wanted = plain(network, prompt, labels)
        mass = sum(wanted)
        found = probabilities(result)
        assert found == pytest.approx([p / mass for p in wanted], abs=1e-4)
        assert result.verdict is not None
        assert result.verdict.rating.label_mass == pytest.approx(mass, abs=1e-4)
        assert result.verdict.rating.expected == pytest.approx(sum(r * p for r, p in enumerate(found, 1)))
    # The second response to each conversation shares all that stands before it.
    seconds = [prompt for prompt, _ in engine.asked[1::2]]
    before = sum(len(prompt) - len(prompt.segments[-1]) for prompt in seconds)
    assert sum(result.usage.cached_tokens for result in results) == before > 0


async def test_identical_items_are_computed_once_and_score_alike(judge: Judge) -> None:
    same = item(CAPITAL, "Paris, on the Seine.")
    results = await judge.score_all([same, same, item(CAPITAL, "Rome."), same])
    later = await judge.score_one(same)
    assert len(noted(judge).asked) == 2
    equal = [results[0], results[1], results[3], later]
    assert len({probabilities(result) for result in equal}) == 1
    assert probabilities(results[2]) != probabilities(later)
    assert later.usage.cached_tokens == later.usage.prompt_tokens


async def test_a_critique_parses_and_keeps_its_rating(judge: Judge) -> None:
    asked = item(CAPITAL, "It is Paris, the largest city of the country.")
    result = await judge.score_one(asked, Options(CritiqueMode(max_points=1, max_point_chars=60)))
    assert len(probabilities(result)) == 5
    assert result.verdict is not None
    critique = result.verdict.critique
    assert critique is not None
    assert len(critique.strengths) == len(critique.shortcomings) == 1
    assert all(1 <= point.rating <= 5 for point in (*critique.strengths, *critique.shortcomings))
    assert result.usage.completion_tokens > 0


async def test_a_seed_repeats_reasons_and_rating(judge: Judge) -> None:
    asked = item(CAPITAL, "Marseille.")
    options = Options(ReasoningMode(samples=2, seed=11, max_tokens=16))
    first, again = [await judge.score_one(asked, options) for _ in range(2)]
    assert probabilities(first) == probabilities(again)
    assert first.verdict is not None
    assert again.verdict is not None
    assert first.verdict.samples == again.verdict.samples
    one, other = first.verdict.samples
    assert one.reasons != other.reasons
    assert first.verdict.rating.expected == pytest.approx((one.expected + other.expected) / 2)


async def test_an_answer_that_its_question_makes_likely_is_easy(judge: Judge) -> None:
    found = await judge.difficulty_one((Message.of("user", CAPITAL),), "The capital of France is Paris.", True)
    assert found.status is Status.OK, found.error
    assert found.conditional is not None
    assert found.unconditional is not None
    assert found.unconditional < found.conditional < 0
    assert found.answer_tokens == len(found.tokens)
    assert sum(token.conditional for token in found.tokens) == pytest.approx(found.conditional)
    assert [token.start_byte for token in found.tokens] == sorted({token.start_byte for token in found.tokens})


async def test_a_conversation_gets_a_scenario(judge: Judge) -> None:
    messages = (Message.of("user", "Translate into French: the cat sleeps."),)
    found, again = [await judge.classify_one(messages) for _ in range(2)]
    assert found.status is Status.OK, found.error
    assert found.scenario in judge.scenarios
    assert len(found.probabilities) == len(judge.scenarios)
    assert math.fsum(found.probabilities) == pytest.approx(1.0)
    assert found.scenario == list(judge.scenarios)[_highest(found.probabilities)]
    assert (again.scenario, again.probabilities) == (found.scenario, found.probabilities)
    assert len(noted(judge).asked) == 1


async def test_a_comparison_in_both_orders_is_mirrored_by_swapping(judge: Judge) -> None:
    right, wrong = Response.of("Paris."), Response.of("A banana is a fruit.")
    asked = (Message.of("user", CAPITAL),)
    ahead = await judge.compare_one(Comparison(asked, right, wrong, scenario="close_qa"))
    swapped = await judge.compare_one(Comparison(asked, wrong, right, scenario="close_qa"))
    assert ahead.status is swapped.status is Status.OK, (ahead.error, swapped.error)
    assert ahead.verdict is not None
    assert swapped.verdict is not None
    a, b, tie = ahead.verdict.probabilities
    assert swapped.verdict.probabilities == (b, a, tie)
    assert math.fsum((a, b, tie)) == pytest.approx(1.0)
    mirrored = {"A": "B", "B": "A", "tie": "tie"}
    assert swapped.verdict.choice == mirrored[ahead.verdict.choice]
    assert swapped.verdict.order_disagreement == ahead.verdict.order_disagreement
    assert len(noted(judge).asked) == 2


def _highest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda index: values[index])
