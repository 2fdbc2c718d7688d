"""From the contract's messages to this package's types. What breaks the contract raises ProtocolError."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Literal, Protocol

from themis_client.content import Criterion
from themis_client.description import Description, Limits, Scenario, Version
from themis_client.errors import ProtocolError
from themis_client.failure import Failure, Status
from themis_client.results import (
    Classified,
    Compared,
    CriterionVerdict,
    Critique,
    CritiquePoint,
    Difficulty,
    RatingProbability,
    ReasoningSample,
    ScenarioProbability,
    Score,
    Timings,
    TokenCounts,
    TokenLikelihood,
    Verdict,
)
from themis_proto.v1 import judge_pb2 as pb

PREFERENCES: dict[int, Literal["A", "B", "tie"]] = {1: "A", 2: "B", 3: "tie"}
KNOWN_STATUSES = frozenset(status.value for status in Status)


class Answer(Protocol):
    """What the results of all calls have in common."""

    @property
    def key(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def error(self) -> str: ...
    @property
    def error_field(self) -> str: ...
    @property
    def version(self) -> str: ...


def status(answer: Answer) -> Status:
    """Statuses that came after this client was written are UNKNOWN."""
    return Status(answer.status) if answer.status in KNOWN_STATUSES else Status.UNKNOWN


def score(answer: pb.Result, path: str) -> Score | Failure:
    """`path` is the item's place in the caller's call, "items[3]"."""
    if answer.status != pb.ITEM_STATUS_OK:
        return _failure(answer, path, group=answer.group, scenario=answer.scenario)
    if not answer.HasField("verdict"):
        raise ProtocolError(f"{path} is OK and has no verdict")
    return Score(
        key=answer.key,
        group=answer.group,
        verdict=_verdict(answer.verdict, path),
        reasoning_verdict=_verdict(answer.reasoning_verdict, path) if answer.HasField("reasoning_verdict") else None,
        scenario=answer.scenario,
        scenario_probability=answer.scenario_probability if answer.HasField("scenario_probability") else None,
        version=answer.version,
        template_digest=answer.template_digest,
        tokens=_counts(answer.tokens),
        timings=_timings(answer.timings),
        prompt=answer.prompt if answer.HasField("prompt") else None,
        truncated_tokens=answer.truncated_tokens,
        reference_used=answer.reference_used,
    )


def compared(answer: pb.CompareResult, path: str) -> Compared | Failure:
    if answer.status != pb.ITEM_STATUS_OK:
        return _failure(answer, path, scenario=answer.scenario)
    verdict = answer.verdict
    if verdict.preference not in PREFERENCES:
        raise ProtocolError(f"{path} is OK and has no preference")
    return Compared(
        key=answer.key,
        preference=PREFERENCES[verdict.preference],
        probability_a=_finite(verdict.probability_a, path),
        probability_b=_finite(verdict.probability_b, path),
        probability_tie=_finite(verdict.probability_tie, path),
        order_disagreement=verdict.order_disagreement if verdict.HasField("order_disagreement") else None,
        label_mass=verdict.label_mass if verdict.HasField("label_mass") else None,
        scenario=answer.scenario,
        version=answer.version,
        template_digest=answer.template_digest,
        tokens=_counts(answer.tokens),
        timings=_timings(answer.timings),
        prompts=tuple(answer.prompts),
    )


def classified(answer: pb.ClassifyResult, path: str) -> Classified | Failure:
    if answer.status != pb.ITEM_STATUS_OK:
        return _failure(answer, path)
    if not answer.scenario:
        raise ProtocolError(f"{path} is OK and has no scenario")
    return Classified(
        key=answer.key,
        scenario=answer.scenario,
        probabilities=tuple(ScenarioProbability(one.scenario, one.probability) for one in answer.probabilities),
        label_mass=answer.label_mass if answer.HasField("label_mass") else None,
        version=answer.version,
    )


def difficulty(answer: pb.DifficultyResult, path: str) -> Difficulty | Failure:
    if answer.status != pb.ITEM_STATUS_OK:
        return _failure(answer, path)
    if not (answer.HasField("conditional") and answer.HasField("unconditional")):
        raise ProtocolError(f"{path} is OK and has no likelihoods")
    return Difficulty(
        key=answer.key,
        conditional=_finite(answer.conditional, path),
        unconditional=_finite(answer.unconditional, path),
        answer_tokens=answer.answer_tokens,
        tokens=tuple(TokenLikelihood(one.start_byte, one.conditional, one.unconditional) for one in answer.tokens),
        version=answer.version,
        counts=_counts(answer.counts),
    )


def description(answer: pb.DescribeResponse) -> Description:
    return Description(
        current=answer.current,
        versions=tuple(_version(version) for version in answer.versions),
        scenarios=tuple(_scenario(scenario) for scenario in answer.scenarios),
        limits=_limits(answer.limits),
        software_version=answer.software_version,
    )


def at_path(field: str, path: str) -> str:
    """A field's path in the caller's call: the server counts from the start of a batch or a stream."""
    return re.sub(r"^(item|(items|comparisons|conversations)\[\d+\])(?=\.|$)", path, field) if field else ""


def _failure(answer: Answer, path: str, group: str = "", scenario: str = "") -> Failure:
    found = status(answer)
    known = answer.error or f"the server gave no reason (status {answer.status})"
    field = at_path(answer.error_field, path)
    return Failure(
        status=found,
        error=known.replace(answer.error_field, field) if field else known,
        field=field,
        key=answer.key,
        group=group,
        version=answer.version,
        scenario=scenario,
    )


def _verdict(verdict: pb.Verdict, path: str) -> Verdict:
    return Verdict(
        expected_rating=_finite(verdict.expected_rating, path),
        rating=verdict.rating,
        score=_finite(verdict.score, path),
        probabilities=_probabilities(verdict.probabilities),
        label_mass=verdict.label_mass if verdict.HasField("label_mass") else None,
        entropy=verdict.entropy if verdict.HasField("entropy") else None,
        critique=_critique(verdict.critique) if verdict.HasField("critique") else None,
        criteria=tuple(_criterion_verdict(one, path) for one in verdict.criteria),
        samples=tuple(ReasoningSample(one.reasons, one.expected_rating, one.cut) for one in verdict.samples),
    )


def _critique(critique: pb.Critique) -> Critique:
    return Critique(
        strengths=tuple(CritiquePoint(point.text, point.rating) for point in critique.strengths),
        shortcomings=tuple(CritiquePoint(point.text, point.rating) for point in critique.shortcomings),
        text=critique.text,
    )


def _criterion_verdict(one: pb.CriterionVerdict, path: str) -> CriterionVerdict:
    return CriterionVerdict(
        id=one.id,
        weight=one.weight,
        expected_rating=_finite(one.expected_rating, path),
        rating=one.rating,
        probabilities=_probabilities(one.probabilities),
        label_mass=one.label_mass if one.HasField("label_mass") else None,
    )


def _probabilities(ratings: Iterable[pb.RatingProbability]) -> tuple[RatingProbability, ...]:
    return tuple(RatingProbability(one.rating, one.probability) for one in ratings)


def _finite(number: float, path: str) -> float:
    if not math.isfinite(number):
        raise ProtocolError(f"{path} is OK and has {number} for a number")
    return number


def _counts(counts: pb.TokenCounts) -> TokenCounts:
    return TokenCounts(counts.prompt, counts.cached, counts.completion)


def _timings(timings: pb.Timings) -> Timings:
    return Timings(timings.queued_s, timings.tokenised_s, timings.computed_s)


def _version(version: pb.Version) -> Version:
    return Version(
        id=version.id,
        base_model=version.base_model,
        engine=version.engine,
        weights_digest=version.weights_digest,
        template_digest=version.template_digest,
        data_order=version.data_order,
        verdict_order=version.verdict_order,
        label_mass_threshold=version.label_mass_threshold,
        context_tokens=version.context_tokens,
        dtype=version.dtype,
        reference_scenarios=tuple(version.reference_scenarios),
    )


def _scenario(scenario: pb.Scenario) -> Scenario:
    criteria = tuple(
        Criterion(one.text, one.id, one.name, one.weight if one.HasField("weight") else None)
        for one in scenario.criteria
    )
    return Scenario(scenario.id, scenario.name, scenario.definition, criteria)


def _limits(limits: pb.Limits) -> Limits:
    return Limits(
        max_items=limits.max_items,
        max_message_bytes=limits.max_message_bytes,
        max_item_bytes=limits.max_item_bytes,
        stream_window=limits.stream_window,
        max_queue_tokens=limits.max_queue_tokens,
        max_deadline_s=limits.max_deadline_s,
    )
