"""The four modes of rating one response."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from themis_judge import prompts, verdict
from themis_judge.asking import LABEL_RESERVE_TOKENS, Asker, Work
from themis_judge.engines.base import Prompt, Sampling
from themis_judge.errors import OffFormat
from themis_judge.failures import caught, raised
from themis_judge.items import (
    CriteriaMode,
    CriterionVerdict,
    CritiqueMode,
    Distribution,
    Mode,
    Options,
    RatingMode,
    ReasoningMode,
    Sample,
    Verdict,
)

T = TypeVar("T")

_CRITERIA_TOKENS = 10 * 48  # about ten criteria, each with its question


async def rate(asker: Asker, layout: prompts.Layout, task: prompts.Task, options: Options, work: Work) -> Verdict:
    """The verdict in the options' mode. `layout` is made with a tail of its own unless the mode is rating."""
    match options.mode:
        case RatingMode():
            return verdict.verdict_of(await _rating(asker, layout, task, options, work))
        case CritiqueMode() as mode:
            return await _critique(asker, layout, task, options, mode, work)
        case CriteriaMode():
            return await _criteria(asker, layout, task, options, work)
        case ReasoningMode() as mode:
            return await _reasoning(asker, layout, task, options, mode, work)


def critique_tokens(mode: CritiqueMode) -> int:
    """The most tokens that a critique may take. A token a character is several times what prose takes; text that
    runs out all the same is no critique."""
    return 32 + 2 * mode.max_points * (mode.max_point_chars + 16)


def added_tokens(mode: Mode) -> int:
    """An estimate of what a mode takes beyond the prompt itself, for admission."""
    match mode:
        case CritiqueMode():
            return critique_tokens(mode) // 4
        case ReasoningMode():
            return mode.samples * (mode.max_tokens + 32)
        case CriteriaMode():
            return _CRITERIA_TOKENS
        case RatingMode():
            return 0


async def _rating(
    asker: Asker, layout: prompts.Layout, task: prompts.Task, options: Options, work: Work
) -> Distribution:
    prompt = await asker.encode(layout, options.truncation, work, LABEL_RESERVE_TOKENS)
    return await asker.rating(prompt, task.rubric, work)


async def _critique(
    asker: Asker, layout: prompts.Layout, task: prompts.Task, options: Options, mode: CritiqueMode, work: Work
) -> Verdict:
    low, high = task.rubric.scale_min, task.rubric.scale_max
    grammar = verdict.critique_grammar(low, high, mode.max_points, mode.max_point_chars, not task.reason_first)
    limit = critique_tokens(mode)
    sampling = Sampling(max_tokens=limit, grammar=grammar)
    reserve = limit + LABEL_RESERVE_TOKENS
    if task.reason_first:
        reserve += asker.encoder.tokens(prompts.rating_start(task.rubric))
        prompt = await asker.encode(replace(layout, answer_start=""), options.truncation, work, reserve)
        text, cut = await asker.generate(prompt, sampling, work)
        rating = await asker.rating(asker.extend(prompt, text, prompts.rating_start(task.rubric)), task.rubric, work)
    else:
        prompt = await asker.encode(layout, options.truncation, work, reserve)
        rating = await asker.rating(prompt, task.rubric, work)
        text, cut = await asker.generate(asker.extend(prompt, str(rating.chosen)), sampling, work)
    critique = None if cut else verdict.parse_critique(text, range(low, high + 1))
    if critique is None:
        if cut:
            raise OffFormat("the critique met its length limit", "cut")
        raise OffFormat("the critique could not be read", "unreadable")
    return replace(verdict.verdict_of(rating), critique=critique)


async def _criteria(asker: Asker, layout: prompts.Layout, task: prompts.Task, options: Options, work: Work) -> Verdict:
    criteria = task.rubric.criteria
    total = sum(criterion.weight for criterion in criteria)
    questions = [prompts.criterion_question(layout, c.name, c.text, task.custom) for c in criteria]
    ratings = await _together([_rating(asker, question, task, options, work) for question in questions])
    parts = [(c.weight / total, rating) for c, rating in zip(criteria, ratings, strict=True)]
    verdicts = tuple(
        CriterionVerdict(c.id, weight, rating) for c, (weight, rating) in zip(criteria, parts, strict=True)
    )
    return replace(verdict.verdict_of(verdict.mixture(parts)), criteria=verdicts)


async def _reasoning(
    asker: Asker, layout: prompts.Layout, task: prompts.Task, options: Options, mode: ReasoningMode, work: Work
) -> Verdict:
    question = prompts.reasons_question(layout)
    closing = asker.encoder.tokens("\n\n" + prompts.rating_start(task.rubric))
    prompt = await asker.encode(question, options.truncation, work, mode.max_tokens + closing + LABEL_RESERVE_TOKENS)
    temperature = mode.temperature if mode.temperature is not None else (0.0 if mode.samples == 1 else 0.7)
    samplings = [
        Sampling(mode.max_tokens, temperature, seed=mode.seed + index, stop=("\n\n", "[["))
        for index in range(mode.samples)
    ]
    samples = await _together([_sample(asker, prompt, task, sampling, work) for sampling in samplings])
    mean = verdict.mixture([(1 / len(samples), rating) for _, rating in samples])
    return replace(verdict.verdict_of(mean), samples=tuple(sample for sample, _ in samples))


async def _sample(
    asker: Asker, prompt: Prompt, task: prompts.Task, sampling: Sampling, work: Work
) -> tuple[Sample, Distribution]:
    text, cut = await asker.generate(prompt, sampling, work)
    reasons = text.strip()
    rated = asker.extend(prompt, reasons, "\n\n" + prompts.rating_start(task.rubric))
    rating = await asker.rating(rated, task.rubric, work)
    return Sample(reasons, rating.expected, cut), rating


async def _together(asked: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results at once; the first failure is raised after all are done."""
    return [raised(one) for one in await asyncio.gather(*map(caught, asked))]
