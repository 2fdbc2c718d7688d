"""Between the wire's messages and the judge's types. Nothing else knows both.

Every item of every call passes through here, so messages are built by keyword in one step, and field paths only
where something is wrong. Reading raises InvalidItem or UnsupportedItem with a path from the message that is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from themis_judge import items as judge
from themis_judge.engines.base import Usage
from themis_judge.errors import InvalidItem, UnsupportedItem
from themis_judge.items import Status
from themis_judge.scenarios import Scenario
from themis_judge.version import JudgeVersion
from themis_proto.v1 import judge_pb2 as pb
from themis_sidecar.config import LimitsConfig

_FINISH_REASONS: Mapping[int, judge.FinishReason] = {reason.value: reason for reason in judge.FinishReason}
_TRUNCATIONS: Mapping[int, judge.Truncation] = {
    pb.TRUNCATION_POLICY_UNSPECIFIED: judge.Truncation.REFUSE,
    pb.TRUNCATION_POLICY_REFUSE: judge.Truncation.REFUSE,
    pb.TRUNCATION_POLICY_CONVERSATION_START: judge.Truncation.CONVERSATION_START,
    pb.TRUNCATION_POLICY_RESPONSE_END: judge.Truncation.RESPONSE_END,
}
_REASONING_POLICIES: Mapping[int, judge.ReasoningPolicy] = {
    pb.REASONING_POLICY_UNSPECIFIED: judge.ReasoningPolicy.STRIP,
    pb.REASONING_POLICY_STRIP: judge.ReasoningPolicy.STRIP,
    pb.REASONING_POLICY_JUDGE: judge.ReasoningPolicy.JUDGE,
    pb.REASONING_POLICY_APART: judge.ReasoningPolicy.APART,
}
_ORDERS: Mapping[int, judge.Orders] = {
    pb.COMPARE_ORDERS_UNSPECIFIED: judge.Orders.BOTH,
    pb.COMPARE_ORDERS_BOTH: judge.Orders.BOTH,
    pb.COMPARE_ORDERS_A_FIRST: judge.Orders.A_FIRST,
    pb.COMPARE_ORDERS_B_FIRST: judge.Orders.B_FIRST,
}
_STATUSES: Mapping[Status, pb.ItemStatus.ValueType] = {
    Status.OK: pb.ITEM_STATUS_OK,
    Status.INVALID: pb.ITEM_STATUS_INVALID,
    Status.TOO_LONG: pb.ITEM_STATUS_TOO_LONG,
    Status.OFF_FORMAT: pb.ITEM_STATUS_OFF_FORMAT,
    Status.DEADLINE_EXCEEDED: pb.ITEM_STATUS_DEADLINE_EXCEEDED,
    Status.OVERLOADED: pb.ITEM_STATUS_OVERLOADED,
    Status.UNAVAILABLE: pb.ITEM_STATUS_UNAVAILABLE,
    Status.ENGINE_ERROR: pb.ITEM_STATUS_ENGINE_ERROR,
    Status.UNSUPPORTED: pb.ITEM_STATUS_UNSUPPORTED,
}
_CHOICES: Mapping[str, pb.Preference.ValueType] = {
    "A": pb.PREFERENCE_A,
    "B": pb.PREFERENCE_B,
    "tie": pb.PREFERENCE_TIE,
}
_BLAMES_A_FIELD = (Status.INVALID, Status.UNSUPPORTED, Status.TOO_LONG)
_OWN_FIELDS_OF_DIFFICULTY = ("", "key", "prompt", "answer")

_Known = TypeVar("_Known")


# ---------------------------------------------------------------- reading requests


def read_item(item: pb.Item) -> judge.Item:
    return judge.Item(
        messages=read_messages(item.messages, "messages"),
        response=_read_response(item.response, "response"),
        reference=item.reference if item.HasField("reference") else None,
        scenario=item.scenario,
        rubric=_read_rubric(item.rubric) if item.HasField("rubric") else None,
        key=item.key,
        group=item.group,
    )


def read_comparison(comparison: pb.Comparison) -> judge.Comparison:
    return judge.Comparison(
        messages=read_messages(comparison.messages, "messages"),
        response_a=_read_response(comparison.response_a, "response_a"),
        response_b=_read_response(comparison.response_b, "response_b"),
        reference=comparison.reference if comparison.HasField("reference") else None,
        scenario=comparison.scenario,
        rubric=_read_rubric(comparison.rubric) if comparison.HasField("rubric") else None,
        key=comparison.key,
    )


def read_difficulty_prompt(item: pb.DifficultyItem) -> judge.Item | tuple[judge.Message, ...]:
    kind = item.WhichOneof("prompt")
    if kind is None:
        raise InvalidItem("prompt", "is missing; set evaluation or conversation")
    return read_item(item.evaluation) if kind == "evaluation" else read_messages(item.conversation.messages, "messages")


def read_messages(messages: Iterable[pb.Message], path: str) -> tuple[judge.Message, ...]:
    return tuple(
        [
            judge.Message(
                message.role, tuple([_read_part(part, path, at, index) for index, part in enumerate(message.parts)])
            )
            for at, message in enumerate(messages)
        ]
    )


def _read_part(part: pb.Part, path: str, at: int, index: int) -> judge.Part:
    kind = part.WhichOneof("kind")
    if kind == "text":
        return judge.Text(part.text)
    if kind == "reasoning":
        return judge.Reasoning(part.reasoning)
    if kind == "tool_call":
        call = part.tool_call
        return judge.ToolCall(name=call.name, arguments_json=call.arguments_json, id=call.id)
    if kind == "tool_result":
        result = part.tool_result
        return judge.ToolResult(text=result.text, id=result.id, is_error=result.is_error)
    where = f"{path}[{at}].parts[{index}]"
    if kind == "image":
        raise UnsupportedItem(f"{where}.image", "images are reserved and not judged yet; send text")
    raise InvalidItem(where, "has no kind; set text, reasoning, tool_call or tool_result")


def _read_response(response: pb.Response, path: str) -> judge.Response:
    return judge.Response(
        read_messages(response.messages, f"{path}.messages"),
        _known(_FINISH_REASONS, response.finish_reason, f"{path}.finish_reason"),
    )


def _read_rubric(rubric: pb.Rubric) -> judge.Rubric:
    criteria = tuple(
        judge.Criterion(
            id=criterion.id or f"c{position}",
            text=criterion.text,
            name=criterion.name,
            weight=criterion.weight if criterion.HasField("weight") else 1.0,
        )
        for position, criterion in enumerate(rubric.criteria, start=1)
    )
    return judge.Rubric(
        criteria=criteria,
        scale_min=rubric.scale_min if rubric.HasField("scale_min") else 1,
        scale_max=rubric.scale_max if rubric.HasField("scale_max") else 5,
    )


def read_options(options: pb.ScoreOptions) -> judge.Options:
    return judge.Options(
        mode=_read_mode(options),
        truncation=_known(_TRUNCATIONS, options.truncation, "truncation"),
        reasoning_policy=read_reasoning_policy(options.reasoning_policy),
        return_prompt=options.return_prompt,
    )


def _read_mode(options: pb.ScoreOptions) -> judge.Mode:
    kind = options.WhichOneof("mode")
    if kind == "critique":
        critique = options.critique
        return judge.CritiqueMode(
            max_points=critique.max_points if critique.HasField("max_points") else 3,
            max_point_chars=critique.max_point_chars if critique.HasField("max_point_chars") else 240,
        )
    if kind == "reasoning":
        reasoning = options.reasoning
        return judge.ReasoningMode(
            samples=reasoning.samples if reasoning.HasField("samples") else 1,
            seed=reasoning.seed,
            temperature=reasoning.temperature if reasoning.HasField("temperature") else None,
            max_tokens=reasoning.max_tokens if reasoning.HasField("max_tokens") else 256,
        )
    return judge.CriteriaMode() if kind == "criteria" else judge.RatingMode()


def read_reasoning_policy(policy: int) -> judge.ReasoningPolicy:
    return _known(_REASONING_POLICIES, policy, "reasoning_policy")


def read_orders(orders: int) -> judge.Orders:
    return _known(_ORDERS, orders, "orders")


def _known(values: Mapping[int, _Known], number: int, path: str) -> _Known:
    value = values.get(number)
    if value is None:
        raise InvalidItem(path, f"is {number}, which this server does not know")
    return value


# ---------------------------------------------------------------- writing results


class _Outcome(Protocol):
    @property
    def status(self) -> Status: ...
    @property
    def error(self) -> str: ...
    @property
    def error_field(self) -> str: ...


def write_result(item: pb.Item, where: str, result: judge.Result, version: JudgeVersion) -> pb.Result:
    """`where` is the item's path from the request; the result's own path is from the item."""
    error, error_field = _blame(where, result)
    return pb.Result(
        key=item.key,
        group=item.group,
        status=_STATUSES[result.status],
        error=error,
        error_field=error_field,
        verdict=_write_verdict(result.verdict),
        reasoning_verdict=_write_verdict(result.reasoning_verdict),
        scenario=result.scenario,
        scenario_probability=result.scenario_probability,
        version=version.id,
        template_digest=version.template_digest,
        tokens=_write_tokens(result.usage),
        timings=_write_timings(result.usage, result.tokenised_s),
        prompt=result.prompt,
        truncated_tokens=result.truncated_tokens,
        reference_used=result.reference_used,
    )


def write_comparison(
    comparison: pb.Comparison, where: str, result: judge.CompareResult, version: JudgeVersion
) -> pb.CompareResult:
    error, error_field = _blame(where, result)
    return pb.CompareResult(
        key=comparison.key,
        status=_STATUSES[result.status],
        error=error,
        error_field=error_field,
        verdict=_write_preference(result.verdict),
        scenario=result.scenario,
        version=version.id,
        template_digest=version.template_digest,
        tokens=_write_tokens(result.usage),
        timings=_write_timings(result.usage, result.tokenised_s),
        prompts=result.prompts,
    )


def write_classification(
    conversation: pb.Conversation,
    where: str,
    result: judge.Classification,
    version: JudgeVersion,
    scenarios: Iterable[str],
) -> pb.ClassifyResult:
    error, error_field = _blame(where, result)
    return pb.ClassifyResult(
        key=conversation.key,
        status=_STATUSES[result.status],
        error=error,
        error_field=error_field,
        scenario=result.scenario,
        probabilities=[
            pb.ScenarioProbability(scenario=scenario, probability=probability)
            for scenario, probability in zip(scenarios, result.probabilities, strict=bool(result.probabilities))
        ],
        label_mass=result.label_mass,
        version=version.id,
    )


def write_difficulty(
    item: pb.DifficultyItem, where: str, result: judge.Difficulty, version: JudgeVersion
) -> pb.DifficultyResult:
    kind = item.WhichOneof("prompt")
    inside = kind is not None and result.error_field not in _OWN_FIELDS_OF_DIFFICULTY
    error, error_field = _blame(f"{where}.{kind}" if inside else where, result)
    return pb.DifficultyResult(
        key=item.key,
        status=_STATUSES[result.status],
        error=error,
        error_field=error_field,
        conditional=result.conditional,
        unconditional=result.unconditional,
        answer_tokens=result.answer_tokens,
        tokens=[
            pb.TokenLikelihood(
                start_byte=token.start_byte, conditional=token.conditional, unconditional=token.unconditional
            )
            for token in result.tokens
        ],
        version=version.id,
        counts=_write_tokens(result.usage),
    )


def _blame(where: str, outcome: _Outcome) -> tuple[str, str]:
    """The outcome's error and field with the path from the request."""
    if outcome.status not in _BLAMES_A_FIELD:
        return outcome.error, ""
    path = f"{where}.{outcome.error_field}" if outcome.error_field else where
    return f"{path}: {outcome.error.removeprefix(f'{outcome.error_field}: ')}", path


def _write_verdict(verdict: judge.Verdict | None) -> pb.Verdict | None:
    if verdict is None:
        return None
    rating = verdict.rating
    return pb.Verdict(
        expected_rating=rating.expected,
        rating=rating.chosen,
        probabilities=_write_probabilities(rating),
        label_mass=rating.label_mass,
        score=verdict.score,
        entropy=verdict.entropy,
        critique=_write_critique(verdict.critique),
        criteria=[_write_criterion_verdict(criterion) for criterion in verdict.criteria],
        samples=[
            pb.ReasoningSample(reasons=sample.reasons, expected_rating=sample.expected, cut=sample.cut)
            for sample in verdict.samples
        ],
    )


def _write_probabilities(rating: judge.Distribution) -> list[pb.RatingProbability]:
    if rating.probabilities is None:
        return []
    return [
        pb.RatingProbability(rating=value, probability=probability)
        for value, probability in zip(rating.ratings, rating.probabilities, strict=True)
    ]


def _write_critique(critique: judge.Critique | None) -> pb.Critique | None:
    if critique is None:
        return None
    return pb.Critique(
        strengths=_write_points(critique.strengths),
        shortcomings=_write_points(critique.shortcomings),
        text=critique.text,
    )


def _write_points(points: Sequence[judge.Point]) -> list[pb.CritiquePoint]:
    return [pb.CritiquePoint(text=point.text, rating=point.rating) for point in points]


def _write_criterion_verdict(criterion: judge.CriterionVerdict) -> pb.CriterionVerdict:
    return pb.CriterionVerdict(
        id=criterion.id,
        weight=criterion.weight,
        expected_rating=criterion.rating.expected,
        rating=criterion.rating.chosen,
        probabilities=_write_probabilities(criterion.rating),
        label_mass=criterion.rating.label_mass,
    )


def _write_preference(preference: judge.Preference | None) -> pb.PreferenceVerdict | None:
    if preference is None:
        return None
    a, b, tie = preference.probabilities
    return pb.PreferenceVerdict(
        preference=_CHOICES[preference.choice],
        probability_a=a,
        probability_b=b,
        probability_tie=tie,
        order_disagreement=preference.order_disagreement,
        label_mass=preference.label_mass,
    )


def _write_tokens(usage: Usage) -> pb.TokenCounts:
    return pb.TokenCounts(prompt=usage.prompt_tokens, cached=usage.cached_tokens, completion=usage.completion_tokens)


def _write_timings(usage: Usage, tokenised_s: float) -> pb.Timings:
    return pb.Timings(queued_s=usage.queued_s, tokenised_s=tokenised_s, computed_s=usage.computed_s)


# ---------------------------------------------------------------- describing


def write_version(version: JudgeVersion) -> pb.Version:
    return pb.Version(
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
        reference_scenarios=version.reference_scenarios,
    )


def write_scenario(scenario: Scenario) -> pb.Scenario:
    return pb.Scenario(
        id=scenario.id,
        name=scenario.name,
        definition=scenario.definition,
        criteria=[
            pb.Criterion(id=criterion.id, name=criterion.name, text=criterion.text, weight=criterion.weight)
            for criterion in scenario.criteria
        ],
    )


def write_limits(limits: LimitsConfig) -> pb.Limits:
    return pb.Limits(
        max_items=limits.max_items,
        max_message_bytes=limits.max_message_bytes,
        max_item_bytes=limits.max_item_bytes,
        stream_window=limits.stream_window,
        max_queue_tokens=limits.max_queue_tokens,
        max_deadline_s=limits.max_deadline_s,
    )
