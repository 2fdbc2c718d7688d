"""Critique, reasoning and criteria: what is written, what is asked after it, and how it is put together."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.judge.fakes import CRITIQUE, FakeEngine, assert_failed, by_digest, item, loaded, logs, rubric
from themis_judge import prompts
from themis_judge.engines.base import EngineError, Generation, Labels, LabelScores, Sampling
from themis_judge.items import (
    CriteriaMode,
    CritiqueMode,
    Options,
    Point,
    ReasoningMode,
    Status,
    Truncation,
)
from themis_judge.version import JudgeSettings

CRITIQUED = Options(CritiqueMode())
BY_CRITERIA = Options(CriteriaMode())
REASON_FIRST = JudgeSettings(verdict_order="reason_first")
POINTS = ((Point("It is clear.", 4),), (Point("It is short.", 2), Point("It cites nothing.", 3)))


# ------------------------------------------------------------------------------------------------------ critique


async def test_a_critique_follows_the_rating_that_was_chosen() -> None:
    engine = FakeEngine(lambda text, labels: logs(0.0, 0.1, 0.2, 0.6, 0.1))
    result = await (await loaded(engine)).score_one(item(), CRITIQUED)
    (asked,), (written,) = engine.label_calls, engine.generate_calls
    assert written.text == asked.text + "4"
    assert written.prompt.answer_start == asked.prompt.answer_start + "4"
    assert written.prompt.segments[: len(asked.prompt.segments)] == asked.prompt.segments
    assert written.sampling
    assert written.sampling.temperature == 0.0
    assert written.sampling.grammar
    assert result.verdict
    assert result.verdict.rating.chosen == 4
    assert result.verdict.critique
    assert (result.verdict.critique.strengths, result.verdict.critique.shortcomings) == POINTS
    assert result.usage.completion_tokens == len(CRITIQUE) + 3
    assert result.usage.prompt_tokens == len(asked.prompt) + len(written.prompt)


async def test_the_critiques_rating_is_the_fast_ones() -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    fast, critiqued = await judge.score_one(item()), await judge.score_one(item(), CRITIQUED)
    assert fast.verdict
    assert critiqued.verdict
    assert fast.verdict.rating == critiqued.verdict.rating
    assert len(engine.label_calls) == 1


async def test_a_judge_that_reasons_first_is_asked_for_the_rating_after_its_critique() -> None:
    engine = FakeEngine()
    result = await (await loaded(engine, REASON_FIRST)).score_one(item(), CRITIQUED)
    (asked,), (written,) = engine.label_calls, engine.generate_calls
    assert written.text.endswith("<|assistant|>")
    assert asked.text == written.text + CRITIQUE + "Overall rating (1 to 5): [["
    assert result.verdict
    assert result.verdict.critique
    assert (result.verdict.critique.strengths, result.verdict.critique.shortcomings) == POINTS


async def test_the_grammar_has_the_modes_bounds_and_the_rubrics_scale() -> None:
    engine = FakeEngine(write=lambda text, sampling: "]]\nStrengths:\n- x [[0]]\nShortcomings:\n- y [[1]]\n")
    await (await loaded(engine)).score_one(item(rubric=rubric(0, 1)), Options(CritiqueMode(2, 50)))
    sampling = engine.generate_calls[0].sampling
    assert sampling
    assert sampling.grammar
    assert "point{1,2}" in sampling.grammar
    assert "rest{0,49}" in sampling.grammar
    assert '"0" | "1"\n' in sampling.grammar
    assert sampling.max_tokens >= 2 * 2 * 50 // 2


@pytest.mark.parametrize("settings", [JudgeSettings(), REASON_FIRST])
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (Generation(CRITIQUE, cut=True), "cut"),
        (Generation("Strengths:\n- Good. [[4]]\n", False), "unreadable"),
        (Generation("[[5]]", False), "unreadable"),
    ],
)
async def test_what_is_no_critique_has_no_verdict(settings: JudgeSettings, made: Generation, reason: str) -> None:
    judge = await loaded(FakeEngine(write=lambda text, sampling: made), settings)
    result = await judge.score_one(item(), CRITIQUED)
    assert_failed(result, Status.OFF_FORMAT, "critique")
    assert result.off_format == reason


async def test_a_critique_is_not_written_without_a_rating() -> None:
    engine = FakeEngine(lambda text, labels: logs(0.01, 0, 0, 0, 0))
    assert_failed(await (await loaded(engine)).score_one(item(), CRITIQUED), Status.OFF_FORMAT)
    assert engine.generate_calls == []


async def test_equal_items_share_their_critique() -> None:
    """Equal items in flight are computed once, what is written included."""
    engine = FakeEngine()
    engine.gate = asyncio.Event()
    judge = await loaded(engine, REASON_FIRST)
    scoring = asyncio.gather(*(judge.score_one(item(), CRITIQUED) for _ in range(4)))
    await engine.started.wait()
    engine.gate.set()
    assert len({result.verdict for result in await scoring}) == 1
    assert len(engine.generate_calls) == 1


# ----------------------------------------------------------------------------------------------------- reasoning


def _rated_by_reasons(text: str, labels: Labels) -> tuple[float, ...]:
    return logs(0, 0, 0, 0.5, 0.5) if "Good" in text else logs(0.5, 0.5, 0, 0, 0)


def _by_seed(text: str, sampling: Sampling) -> str:
    return "Good. " if sampling.seed % 2 else " Bad."


async def test_reasons_come_first_and_samples_are_averaged() -> None:
    engine = FakeEngine(_rated_by_reasons, _by_seed)
    mode = ReasoningMode(samples=4, seed=7, max_tokens=32)
    result = await (await loaded(engine)).score_one(item(), Options(mode))
    assert [call.sampling for call in engine.generate_calls] == [
        Sampling(32, 0.7, seed=seed, stop=("\n\n", "[[")) for seed in (7, 8, 9, 10)
    ]
    assert {call.text for call in engine.generate_calls} == {engine.generate_calls[0].text}
    assert engine.generate_calls[0].text.endswith(prompts.REASONS_REMINDER + "<|end|><|assistant|>Reasons: ")
    rated = {call.text.split("Reasons: ")[1] for call in engine.label_calls}
    assert rated == {f"{said}.\n\nOverall rating (1 to 5): [[" for said in ("Good", "Bad")}
    assert result.verdict
    samples = result.verdict.samples
    assert [(sample.reasons, sample.cut) for sample in samples] == [("Good.", False), ("Bad.", False)] * 2
    assert [sample.expected for sample in samples] == pytest.approx([4.5, 1.5] * 2, abs=1e-12)
    assert result.verdict.rating.probabilities == pytest.approx((0.25, 0.25, 0, 0.25, 0.25), abs=1e-12)
    assert result.verdict.rating.expected == pytest.approx(3.0, abs=1e-12)


@pytest.mark.parametrize(
    ("mode", "temperature"),
    [(ReasoningMode(), 0.0), (ReasoningMode(samples=2), 0.7), (ReasoningMode(temperature=1.5), 1.5)],
)
async def test_one_sample_is_greedy_and_several_are_not(mode: ReasoningMode, temperature: float) -> None:
    engine = FakeEngine()
    await (await loaded(engine)).score_one(item(), Options(mode))
    assert {call.sampling.temperature for call in engine.generate_calls if call.sampling} == {temperature}


async def test_reasons_that_were_cut_say_so() -> None:
    judge = await loaded(FakeEngine(write=lambda text, sampling: Generation("It is", cut=True)))
    result = await judge.score_one(item(), Options(ReasoningMode()))
    assert result.verdict
    assert [(sample.reasons, sample.cut) for sample in result.verdict.samples] == [("It is", True)]


async def test_a_sample_that_fails_fails_the_item() -> None:
    def write(text: str, sampling: Sampling) -> str:
        if sampling.seed == 2:
            raise EngineError("broken")
        return "Fine."

    engine = FakeEngine(write=write)
    result = await (await loaded(engine)).score_one(item(), Options(ReasoningMode(samples=4)))
    assert_failed(result, Status.ENGINE_ERROR, "broken")


# ------------------------------------------------------------------------------------------------------ criteria


async def test_each_criterion_is_rated_and_weighed() -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        asked = text.split(prompts.CRITERION_REMINDER)[1]
        rating = {"1": 1, "2": 3, "3": 5}[asked[asked.index("Check ") + 6]]
        return logs(*(float(n == rating) for n in range(1, 6)))

    engine = FakeEngine(answer)
    result = await (await loaded(engine)).score_one(item(rubric=rubric(1, 5, 1.0, 2.0, 5.0)), BY_CRITERIA)
    assert len(engine.label_calls) == 3
    assert result.verdict
    told = [(each.id, each.weight, each.rating.expected) for each in result.verdict.criteria]
    assert told == [("c1", 0.125, 1.0), ("c2", 0.25, 3.0), ("c3", 0.625, 5.0)]
    assert result.verdict.rating.expected == pytest.approx(4.0, abs=1e-12)
    assert result.verdict.rating.probabilities == pytest.approx((0.125, 0, 0.25, 0, 0.625), abs=1e-12)
    assert result.verdict.score == pytest.approx(0.75, abs=1e-12)


async def test_criteria_share_everything_up_to_the_question() -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    result = await judge.score_one(item(scenario="math"), BY_CRITERIA)
    criteria = judge.scenarios["math"].criteria
    assert len(engine.label_calls) == len(criteria)
    assert len({call.prompt.segments[:-1] for call in engine.label_calls}) == 1
    asked = [call.text.split(prompts.CRITERION_REMINDER)[1] for call in engine.label_calls]
    end = "\n<|end|><|assistant|>Overall rating (1 to 5): [["
    assert asked == [f"{criterion.name}: {criterion.text}{end}" for criterion in criteria]
    assert result.verdict
    assert [each.id for each in result.verdict.criteria] == [criterion.id for criterion in criteria]
    assert sum(each.weight for each in result.verdict.criteria) == pytest.approx(1.0, abs=1e-12)


async def test_a_criterion_that_gets_no_rating_fails_the_item() -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        return logs(0.1, 0, 0, 0, 0) if "Check 2" in text.split(prompts.CRITERION_REMINDER)[1] else logs(0, 0, 0, 0, 1)

    result = await (await loaded(FakeEngine(answer))).score_one(item(rubric=rubric()), BY_CRITERIA)
    assert_failed(result, Status.OFF_FORMAT)


@pytest.mark.parametrize("weight", [1e308, 5e-324])
async def test_extreme_weights_are_no_rating_beyond_the_scale(weight: float) -> None:
    result = await (await loaded(FakeEngine())).score_one(item(rubric=rubric(1, 5, weight, weight)), BY_CRITERIA)
    if result.status is Status.OK:
        assert result.verdict
        assert sum(each.weight for each in result.verdict.criteria) == pytest.approx(1.0)
        assert 1 <= result.verdict.rating.expected <= 5


# ---------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("settings", [JudgeSettings(), REASON_FIRST, JudgeSettings(data_order="paper")])
@pytest.mark.parametrize("mode", [CritiqueMode(), ReasoningMode(samples=2), CriteriaMode()])
async def test_every_mode_works_with_an_engine_of_texts(
    mode: CritiqueMode | ReasoningMode | CriteriaMode, settings: JudgeSettings
) -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        return by_digest(text.replace("<|user|>", "").replace("<|end|><|assistant|>", ""), labels)

    ids, texts = FakeEngine(answer), FakeEngine(answer, as_text=True)
    by_ids = await (await loaded(ids, settings)).score_one(item(), Options(mode))
    by_text = await (await loaded(texts, settings)).score_one(item(), Options(mode))
    assert by_ids.status is Status.OK
    assert by_ids.verdict == by_text.verdict
    assert all(call.prompt.segments == () for call in (*texts.label_calls, *texts.generate_calls))


@pytest.mark.parametrize("mode", [CritiqueMode(), ReasoningMode(), CriteriaMode()])
async def test_an_engine_without_probabilities_serves_every_mode(
    mode: CritiqueMode | ReasoningMode | CriteriaMode,
) -> None:
    engine = FakeEngine(lambda text, labels: LabelScores(None, chosen=1), as_text=True)
    result = await (await loaded(engine)).score_one(item(), Options(mode))
    assert result.verdict
    assert result.verdict.rating.probabilities is None
    assert result.verdict.rating.expected == pytest.approx(2.0)
    assert (result.verdict.rating.label_mass, result.verdict.entropy) == (None, None)


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        (CritiqueMode(1, 20), JudgeSettings()),
        (CritiqueMode(1, 20), REASON_FIRST),
        (ReasoningMode(max_tokens=16), JudgeSettings()),
    ],
)
async def test_what_is_written_has_room(mode: CritiqueMode | ReasoningMode, settings: JudgeSettings) -> None:
    """A prompt that is let through leaves room for all that may be written, the constants and the rating."""

    def write(text: str, sampling: Sampling) -> str:
        whole = f"Strengths:\n- {'x' * 20} [[4]]\nShortcomings:\n- {'x' * 20} [[4]]\n"
        return "x" * sampling.max_tokens if sampling.grammar is None else whole

    long = item("r" * 500)
    engine = FakeEngine(write=write)
    await (await loaded(engine, settings)).score_one(long, Options(mode))
    widest = max(len(call.prompt) for call in (*engine.label_calls, *engine.generate_calls))
    for context in range(widest - 60, widest + 60, 12):
        engine = FakeEngine(write=write, context_tokens=context)
        result = await (await loaded(engine, settings)).score_one(long, Options(mode, Truncation.RESPONSE_END))
        assert result.status is Status.OK
        for call in engine.label_calls:
            assert len(call.prompt) + max(map(len, call.labels.sequences)) <= context
        for call in engine.generate_calls:
            assert call.sampling
            assert len(call.prompt) + call.sampling.max_tokens <= context
