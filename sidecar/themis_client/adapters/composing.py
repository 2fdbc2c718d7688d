"""From scores to a reward: weights, penalties, scale and clipping. Arithmetic only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from themis_client.adapters.reward import NO_ANSWER, TRUNCATED, NoReward, Outcome, Reward
from themis_client.adapters.sample import Sample
from themis_client.adapters.settings import JudgePart, RewardSettings, TruncationPenalty
from themis_client.content import FinishReason
from themis_client.failure import Failure
from themis_client.results import Score
from themis_client.tournament import Standing

Judged: TypeAlias = Score | Standing | Failure


def before_judging(sample: Sample, settings: RewardSettings) -> Outcome | None:
    """What needs no judge: None for a sample that is to be judged."""
    if settings.truncated != "judge" and sample.item.response.finish_reason is FinishReason.UNSPECIFIED:
        return NoReward("INVALID", "`truncated` is set, and nothing here says whether completions were cut")
    if settings.truncated == "fail" and sample.truncated:
        return NoReward(TRUNCATED, "the completion was cut at its token limit")
    if not sample.answered and settings.thinking is not None:
        named = settings.thinking.no_answer
        if named == "fail":
            return NoReward(NO_ANSWER, "nothing follows the completion's reasoning")
        return Reward(float(named), named="thinking.no_answer")
    if settings.length is not None and sample.completion_tokens is None:
        return NoReward("INVALID", "a length penalty is set, and this trainer does not say how long completions are")
    return None


def compose(sample: Sample, scored: Mapping[str, Judged], settings: RewardSettings) -> Outcome:
    """The reward of a sample that every part has scored, by the parts' names."""
    scores: dict[str, float] = {}
    versions: dict[str, str] = {}
    value = 0.0
    for part in settings.parts:
        result = scored[part.name]
        if isinstance(result, Failure):
            return NoReward.of(result, part.name)
        found = _scores(part, result)
        if isinstance(found, NoReward):
            return found
        scores |= found
        versions[part.name] = result.version
        value += part.weight * found[part.name]
        value += (part.reasoning_weight or 0.0) * found.get(_reasoning(part), 0.0)
    length, truncation = _penalties(sample, settings)
    scaled = settings.shift + settings.scale * (value - length - truncation)
    clipped = scaled if settings.clip is None else min(max(scaled, settings.clip[0]), settings.clip[1])
    return Reward(clipped, scores, length, truncation, clipped != scaled, versions=versions)


def metrics(outcomes: Sequence[Outcome], settings: RewardSettings) -> dict[str, float]:
    """Figures for a trainer's log, by name. The names depend on the settings alone, so that all ranks log the same.
    Means are over what was scored, and NaN where nothing was."""
    scored = [outcome for outcome in outcomes if isinstance(outcome, Reward) and not outcome.named]
    names = [name for part in settings.parts for name in _names(part)]
    told = {f"score/{name}": _mean([reward.scores[name] for reward in scored]) for name in names}
    told["failed_share"] = _mean([float(isinstance(outcome, NoReward)) for outcome in outcomes])
    told["named_share"] = _mean([float(isinstance(outcome, Reward) and bool(outcome.named)) for outcome in outcomes])
    told["truncated_share"] = _mean([float(outcome.truncated) for outcome in outcomes])
    if settings.length is not None:
        told["length_penalty"] = _mean([reward.length_penalty for reward in scored])
    if isinstance(settings.truncated, TruncationPenalty):
        told["truncation_penalty"] = _mean([reward.truncation_penalty for reward in scored])
    if settings.clip is not None:
        told["clipped_share"] = _mean([float(reward.clipped) for reward in scored])
    if settings.scale != 1.0 or settings.shift != 0.0:
        told |= {"scale": settings.scale, "shift": settings.shift}
    return told


def _scores(part: JudgePart, score: Score | Standing) -> dict[str, float] | NoReward:
    if part.reasoning_weight is None:
        return {part.name: score.score}
    if isinstance(score, Standing) or score.reasoning_verdict is None:
        return NoReward("OFF_FORMAT", "its reasoning was to be scored apart, and there is none", part.name)
    return {part.name: score.score, _reasoning(part): score.reasoning_verdict.score}


def _names(part: JudgePart) -> tuple[str, ...]:
    return (part.name,) if part.reasoning_weight is None else (part.name, _reasoning(part))


def _reasoning(part: JudgePart) -> str:
    return f"{part.name}/reasoning"


def _penalties(sample: Sample, settings: RewardSettings) -> tuple[float, float]:
    length = 0.0
    if settings.length is not None and sample.completion_tokens is not None:
        length = settings.length.of(sample.completion_tokens)
    if sample.truncated and isinstance(settings.truncated, TruncationPenalty):
        return length, settings.truncated.amount
    return length, 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
