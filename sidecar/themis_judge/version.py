"""What a judge version is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from themis_judge import prompts
from themis_judge.engines.base import EngineInfo
from themis_judge.items import Criterion, Message, Reasoning, Response, Rubric, ToolCall, ToolResult
from themis_judge.scenarios import Scenario
from themis_judge.verdict import critique_grammar

DataOrder = Literal["cached", "paper"]
VerdictOrder = Literal["rating_first", "reason_first"]


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """data_order: where the data stand in the prompt, after all static text or where the paper puts them;
    verdict_order: whether the rating or the reasons come first; label_mass_threshold: below it a verdict is
    OFF_FORMAT, in [0, 1]; reference_scenarios: ids whose references are shown, None for the scenarios' own
    policy."""

    data_order: DataOrder = "cached"
    verdict_order: VerdictOrder = "rating_first"
    label_mass_threshold: float = 0.5
    reference_scenarios: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class JudgeVersion:
    """An immutable judge; `id` follows from everything else, so that it can't be reused for another."""

    id: str
    base_model: str
    engine: str
    weights_digest: str
    template_digest: str
    data_order: str
    verdict_order: str
    label_mass_threshold: float
    context_tokens: int
    dtype: str
    reference_scenarios: tuple[str, ...]


def describe_version(
    info: EngineInfo,
    settings: JudgeSettings,
    scenarios: Mapping[str, Scenario],
    references: frozenset[str],
    version_id: str | None = None,
) -> JudgeVersion:
    """version_id: the id under which a store holds the judge; None makes one of what the judge consists of."""
    template = template_digest(settings, scenarios, references)
    whole = hashlib.sha256(
        "\n".join((info.model, info.name, info.weights_digest, info.dtype, str(info.context_tokens), template)).encode()
    ).hexdigest()
    return JudgeVersion(
        id=version_id or f"{info.model}-{whole[:12]}",
        base_model=info.model,
        engine=info.name,
        weights_digest=info.weights_digest,
        template_digest=template,
        data_order=settings.data_order,
        verdict_order=settings.verdict_order,
        label_mass_threshold=settings.label_mass_threshold,
        context_tokens=info.context_tokens,
        dtype=info.dtype,
        reference_scenarios=tuple(sorted(references)),
    )


def references_of(settings: JudgeSettings, scenarios: Mapping[str, Scenario]) -> frozenset[str]:
    """Ids of the scenarios whose references are shown."""
    if settings.reference_scenarios is not None:
        return settings.reference_scenarios
    return frozenset(scenario.id for scenario in scenarios.values() if scenario.reference)


def template_digest(settings: JudgeSettings, scenarios: Mapping[str, Scenario], references: frozenset[str]) -> str:
    """Hex SHA-256 over everything that shapes a prompt or its verdict: template texts, scenarios, criteria,
    orders, policies, threshold."""
    content = {
        "templates": prompts.TEMPLATE_TEXTS,
        "samples": _sample_prompts(),
        "data_order": settings.data_order,
        "verdict_order": settings.verdict_order,
        "label_mass_threshold": settings.label_mass_threshold,
        "references": sorted(references),
        "scenarios": [
            [s.id, s.name, s.definition, [[c.id, c.name, c.text, c.weight] for c in s.criteria]]
            for s in scenarios.values()
        ],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sample_prompts() -> list[str]:
    """One prompt of each kind, with a part of each kind: what stands between the templates' texts shapes a prompt
    as well."""
    task = prompts.Task("name", "definition", Rubric((Criterion("id", "text", "name"),)), True, False, False, True)
    asked = (Message.of("system", "s"), Message.of("user", "u"))
    answer = Response(
        (
            Message("assistant", (Reasoning("r"), ToolCall("tool", "{}"))),
            Message("tool", (ToolResult("ok"), ToolResult("bad", is_error=True))),
            Message.of("assistant", "a"),
        )
    )
    single = prompts.single(task, asked, answer, "reference", show_reasoning=True, split_tail=True)
    layouts = [
        single,
        prompts.single(task, asked, answer, None, reasoning_alone=True),
        prompts.criterion_question(single, "name", "text", True),
        prompts.reasons_question(single),
        prompts.pair(task, asked, answer, answer, "reference"),
        prompts.classify((("A", "name", "definition"),), asked),
    ]
    grammars = [critique_grammar(1, 5, 3, 240, first) for first in (True, False)]
    return [layout.text() + layout.answer_start for layout in layouts] + grammars
