"""The contrast pairs of the built-in criteria: two answers to one instruction, one meeting the criterion."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from themis_judge import (
    CriteriaMode,
    Criterion,
    Item,
    Judge,
    JudgeSettings,
    Message,
    Options,
    Response,
    Rubric,
    Status,
    load_scenarios,
)
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.scenarios import Contrast, Scenario

SCENARIOS = load_scenarios()
PAIRS = [
    (scenario, criterion, scenario.contrasts[criterion.id])
    for scenario in SCENARIOS.values()
    for criterion in scenario.criteria
    if criterion.id in scenario.contrasts
]
SHOWN = ("math", "programming", "translation")


def items(scenario: Scenario, contrast: Contrast, rubric: Rubric | None = None) -> list[Item]:
    """The answer that meets the criterion, and the one that misses it."""
    return [
        Item(
            (Message.of("user", contrast.instruction),),
            Response.of(answer),
            reference=contrast.reference,
            scenario=scenario.id,
            rubric=rubric,
        )
        for answer in (contrast.meets, contrast.misses)
    ]


def test_every_criterion_has_a_contrast() -> None:
    missing = [c.id for s in SCENARIOS.values() for c in s.criteria if c.id not in s.contrasts]
    assert missing == []


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.id)
def test_contrasts_fit_their_scenario(scenario: Scenario) -> None:
    for name, contrast in scenario.contrasts.items():
        assert contrast.meets != contrast.misses, name
        assert contrast.reference is None or scenario.reference, f"{name}: a reference that is never shown"


def judge_of(folder: Path, dtype: str) -> Judge:
    # Beside other programs two threads that wait for each other may be many times slower than one.
    engine = TransformersEngine(TransformersSettings(str(folder), dtype=dtype, threads=1))
    return Judge(engine, settings=JudgeSettings(label_mass_threshold=0.0))


async def test_every_pair_renders_fits_and_differs(tiny_model: Callable[..., Path]) -> None:
    judge = judge_of(tiny_model("llama"), "float32")
    await judge.load()
    tokenizer = judge.engine.tokenizer
    assert tokenizer is not None
    for scenario, criterion, contrast in PAIRS:
        meets, misses = [await judge.score_one(item, Options(return_prompt=True)) for item in items(scenario, contrast)]
        assert tokenizer.data(contrast.meets) != tokenizer.data(contrast.misses), criterion.id
        for result, answer in ((meets, contrast.meets), (misses, contrast.misses)):
            assert result.status is Status.OK, (criterion.id, result.error)
            assert result.prompt is not None
            assert criterion.text in result.prompt
            assert contrast.instruction in result.prompt
            assert answer in result.prompt
            assert result.truncated_tokens == 0
            assert result.reference_used == (contrast.reference is not None)
    await judge.unload()


async def test_both_answers_get_a_verdict_on_every_criterion(tiny_model: Callable[..., Path]) -> None:
    judge = judge_of(tiny_model("llama"), "float32")
    await judge.load()
    for scenario, criterion, contrast in PAIRS[::20]:
        for result in await judge.score_all(items(scenario, contrast), Options(CriteriaMode())):
            assert result.status is Status.OK, (criterion.id, result.error)
            assert result.verdict is not None
            assert [verdict.id for verdict in result.verdict.criteria] == [c.id for c in scenario.criteria]
            assert sum(verdict.weight for verdict in result.verdict.criteria) == pytest.approx(1.0)
            weighted = sum(verdict.weight * verdict.rating.expected for verdict in result.verdict.criteria)
            assert result.verdict.rating.expected == pytest.approx(weighted)
    await judge.unload()


def test_how_often_the_small_model_prefers_what_meets(small_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shown, not judged: the small model has no judgement, and answers that meet a criterion may be longer."""
    judge = judge_of(small_model, "bfloat16")
    chosen = [entry for entry in PAIRS if entry[0].id in SHOWN]

    async def score() -> list[tuple[str, float, float]]:
        await judge.load()
        asked = [
            item
            for scenario, criterion, contrast in chosen
            for item in items(scenario, contrast, Rubric((Criterion(criterion.id, criterion.text, criterion.name),)))
        ]
        ratings = []
        for result in await judge.score_all(asked):
            assert result.verdict is not None, result.error
            ratings.append(result.verdict.rating.expected)
        await judge.unload()
        names = [scenario.id for scenario, _, _ in chosen]
        return list(zip(names, ratings[::2], ratings[1::2], strict=True))

    told = asyncio.run(score())
    lines = ["Contrast pairs that a small model without judgement rates in the right order, by their criterion alone"]
    for name in SHOWN:
        shifts = [meets - misses for scenario, meets, misses in told if scenario == name]
        above = sum(shift > 0 for shift in shifts)
        lines.append(f"{name:16} {above:3} of {len(shifts):3}   mean difference {sum(shifts) / len(shifts):+.3f}")
    with capsys.disabled():
        print("\n", *lines, sep="\n")  # noqa: T201 - for whoever runs the tests
