"""What an item must be. Every error names the field as a path from the item and says what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable

from themis_judge.errors import InvalidItem, UnsupportedItem
from themis_judge.items import (
    ROLES,
    Comparison,
    CritiqueMode,
    Image,
    Item,
    Message,
    Options,
    Part,
    Reasoning,
    ReasoningMode,
    ReasoningPolicy,
    Response,
    Rubric,
    Text,
    ToolCall,
    ToolResult,
)

MAX_CRITERIA = 64
MAX_SCALE_STEPS = 100


def check_item(item: Item, scenarios: Iterable[str], policy: ReasoningPolicy = ReasoningPolicy.STRIP) -> None:
    check_messages(item.messages)
    check_response(item.response, "response", policy)
    _check_context(item, scenarios)


def check_comparison(
    comparison: Comparison, scenarios: Iterable[str], policy: ReasoningPolicy = ReasoningPolicy.STRIP
) -> None:
    check_messages(comparison.messages)
    check_response(comparison.response_a, "response_a", policy)
    check_response(comparison.response_b, "response_b", policy)
    _check_context(comparison, scenarios)


def check_messages(messages: tuple[Message, ...]) -> None:
    if not messages:
        raise InvalidItem("messages", "is empty; send the conversation up to the turn that was answered")
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]", ROLES)
    if messages[-1].role not in ("user", "tool"):
        raise InvalidItem(
            f"messages[{len(messages) - 1}].role",
            f"is {messages[-1].role!r}, so there is no turn to answer; the last message must be by user or tool, "
            "and the answer belongs into the response",
        )


def check_response(response: Response, where: str, policy: ReasoningPolicy = ReasoningPolicy.STRIP) -> None:
    """policy: where reasoning is not shown as a part of the answer, it can't be the answer."""
    if not response.messages:
        raise InvalidItem(f"{where}.messages", "is empty; send the response to judge")
    for index, message in enumerate(response.messages):
        _check_message(message, f"{where}.messages[{index}]", ("assistant", "tool"))
    said = (part for message in response.messages if message.role == "assistant" for part in message.parts)
    shown = (Text, Reasoning) if policy is ReasoningPolicy.JUDGE else (Text,)
    if not any(isinstance(part, ToolCall) or (isinstance(part, shown) and part.text.strip()) for part in said):
        raise InvalidItem(f"{where}.messages", "holds no text by the assistant; an empty response can't be rated")


def check_options(options: Options) -> None:
    mode = options.mode
    if isinstance(mode, CritiqueMode):
        _check_range("critique.max_points", mode.max_points, 1, 8)
        _check_range("critique.max_point_chars", mode.max_point_chars, 20, 1000)
    if isinstance(mode, ReasoningMode):
        _check_range("reasoning.samples", mode.samples, 1, 16)
        _check_range("reasoning.max_tokens", mode.max_tokens, 16, 4096)
        if mode.temperature is not None:
            _check_range("reasoning.temperature", mode.temperature, 0.0, 2.0)


def _check_range(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidItem(field, f"is {value}; it must lie between {low} and {high}")


def _check_context(item: Item | Comparison, scenarios: Iterable[str]) -> None:
    if item.scenario and item.scenario not in scenarios:
        known = ", ".join(sorted(scenarios))
        raise InvalidItem("scenario", f"is {item.scenario!r}, which this judge does not know; it knows {known}")
    if item.reference is not None:
        if not item.reference.strip():
            raise InvalidItem("reference", "is empty; leave it out if there is none")
        check_text(item.reference, "reference")
    if item.rubric is not None:
        _check_rubric(item.rubric)


def _check_message(message: Message, where: str, roles: tuple[str, ...]) -> None:
    if message.role not in roles:
        raise InvalidItem(f"{where}.role", f"is {message.role!r}; it must be one of {', '.join(roles)}")
    if not message.parts:
        raise InvalidItem(f"{where}.parts", "is empty; a message needs at least one part")
    for index, part in enumerate(message.parts):
        _check_part(part, message.role, f"{where}.parts[{index}]")


def _check_part(part: Part, role: str, where: str) -> None:
    match part:
        case Image():
            raise UnsupportedItem(f"{where}.image", "images are reserved and not judged yet; send text")
        case ToolCall():
            _only(role, "assistant", f"{where}.tool_call")
            if not part.name:
                raise InvalidItem(f"{where}.tool_call.name", "is empty; name the tool")
            check_text(part.name, f"{where}.tool_call.name")
            check_text(part.arguments_json, f"{where}.tool_call.arguments_json")
        case ToolResult():
            _only(role, "tool", f"{where}.tool_result")
            check_text(part.text, f"{where}.tool_result.text")
        case Reasoning():
            _only(role, "assistant", f"{where}.reasoning")
            check_text(part.text, f"{where}.reasoning")
        case Text():
            check_text(part.text, f"{where}.text")


def _only(role: str, expected: str, where: str) -> None:
    if role != expected:
        raise InvalidItem(where, f"stands in a message by {role}; only {expected} messages may hold it")


def check_text(text: str, where: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidItem(
                where, f"holds a lone surrogate at character {error.start}; send valid Unicode"
            ) from error


def _check_rubric(rubric: Rubric) -> None:
    if not 1 <= len(rubric.criteria) <= MAX_CRITERIA:
        raise InvalidItem("rubric.criteria", f"holds {len(rubric.criteria)} criteria; send 1 to {MAX_CRITERIA}")
    if not 1 <= rubric.scale_max - rubric.scale_min <= MAX_SCALE_STEPS:
        raise InvalidItem(
            "rubric.scale_max",
            f"is {rubric.scale_max} with scale_min {rubric.scale_min}; it must lie 1 to {MAX_SCALE_STEPS} above it",
        )
    seen: set[str] = set()
    for index, criterion in enumerate(rubric.criteria):
        where = f"rubric.criteria[{index}]"
        if not criterion.text.strip():
            raise InvalidItem(f"{where}.text", "is empty; say in one sentence what a good response does")
        check_text(criterion.text, f"{where}.text")
        check_text(criterion.name, f"{where}.name")
        if criterion.id in seen:
            raise InvalidItem(f"{where}.id", f"repeats {criterion.id!r}; ids are unique within a rubric")
        seen.add(criterion.id)
        if not (math.isfinite(criterion.weight) and criterion.weight >= 0):
            raise InvalidItem(f"{where}.weight", f"is {criterion.weight}; it must be a finite number from 0 on")
    if not math.isfinite(sum(criterion.weight for criterion in rubric.criteria)):
        raise InvalidItem("rubric.criteria[0].weight", "and the others have no finite sum; send smaller weights")
    if not any(criterion.weight > 0 for criterion in rubric.criteria):
        raise InvalidItem("rubric.criteria[0].weight", "is 0 like all others; at least one weight must be above 0")
