"""From the event to the archive's record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timezone
from typing import Any, Protocol

from themis_pipeline.archive.checking import PREFERENCES, problems
from themis_pipeline.archive.errors import Refused
from themis_pipeline.archive.record import Point, Record, Turn
from themis_proto.v1 import events_pb2 as events
from themis_proto.v1 import judge_pb2 as judge


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record was read from."""

    topic: str
    partition: int
    offset: int


def from_scored(scored: events.Scored, place: Place) -> Record:
    """Raises Refused for an event that lacks what is required, or contradicts itself."""
    label, instruction, origin = scored.labelled, scored.labelled.instruction, scored.labelled.provenance
    difficulty = scored.difficulty if scored.HasField("difficulty") else None
    ratio = difficulty is not None and difficulty.HasField("mean_loss_ratio")
    preference = PREFERENCES.get(label.preference)
    rating = label.rating if label.HasField("rating") else None
    problem = next(problems(scored), None)
    if problem is not None:
        raise Refused(f"{place.topic}/{place.partition}, offset {place.offset}: {problem}")
    return Record(
        id=scored.id,
        scenario=instruction.scenario,
        mode=_name(events.LabelMode, label.mode, "LABEL_MODE_"),
        labeller=_name(events.Labeller, label.labeller, "LABELLER_"),
        rating=rating,
        preference=preference,
        scale_min=label.scale_min if label.HasField("scale_min") else 1,
        scale_max=label.scale_max if label.HasField("scale_max") else 5,
        pair=label.pair or None,
        swapped=label.swapped,
        instruction=instruction.id,
        instruction_origin=_name(events.InstructionOrigin, instruction.origin, "INSTRUCTION_ORIGIN_"),
        made_from=instruction.made_from,
        scenario_basis=_name(events.ScenarioBasis, instruction.scenario_basis, "SCENARIO_BASIS_"),
        scenario_probability=(
            instruction.scenario_probability if instruction.HasField("scenario_probability") else None
        ),
        messages=tuple(Turn(message.role, _text(message)) for message in instruction.messages),
        candidates=tuple(candidate.id for candidate in label.candidates),
        responses=tuple("\n".join(map(_text, entry.response.messages)) for entry in label.candidates),
        response_generators=tuple(_model(entry.generator) or "" for entry in label.candidates),
        response_lineages=tuple(entry.generator.lineage for entry in label.candidates),
        response_methods=tuple(
            _name(events.ResponseMethod, entry.method, "RESPONSE_METHOD_") for entry in label.candidates
        ),
        response_made_from=tuple(entry.made_from for entry in label.candidates),
        response_length_changes=tuple(
            _name(events.LengthChange, entry.length_change, "LENGTH_CHANGE_") if entry.length_change else "none"
            for entry in label.candidates
        ),
        reference=instruction.reference if instruction.HasField("reference") else None,
        language=instruction.language or None,
        prompt=label.prompt,
        critique=label.critique,
        points=tuple(map(_point, label.points)),
        known=PREFERENCES.get(label.known),
        annotators=label.annotators,
        agreement=label.agreement if label.HasField("agreement") else None,
        source=origin.source,
        source_id=origin.source_id or None,
        licence=origin.licence or None,
        generator=_model(origin.generator),
        generator_lineage=origin.generator.lineage or None,
        teacher=_model(origin.teacher),
        teacher_lineage=origin.teacher.lineage or None,
        judge_lineage=origin.judge_lineage or None,
        classifier_version=origin.classifier_version or None,
        template_digest=origin.template_digest or None,
        scorer=difficulty.scorer if difficulty is not None else None,
        log_perplexity_ratio=difficulty.log_perplexity_ratio if difficulty is not None else None,
        mean_loss_ratio=difficulty.mean_loss_ratio if difficulty is not None and ratio else None,
        loss_with_prompt=difficulty.loss_with_prompt if difficulty is not None else None,
        loss_alone=difficulty.loss_alone if difficulty is not None else None,
        scored_tokens=difficulty.tokens if difficulty is not None else None,
        at=label.at.ToDatetime(timezone.utc),
        topic=place.topic,
        partition=place.partition,
        offset=place.offset,
        event=scored.SerializeToString(deterministic=True),
    )


class _Enum(Protocol):
    def items(self) -> Iterable[tuple[str, Any]]: ...


def _name(kind: _Enum, value: int, prefix: str) -> str:
    """A value that newer software sent stands as its number."""
    known = {number: name for name, number in kind.items()}
    return known.get(value, str(value)).removeprefix(prefix).lower()


def _model(ref: events.ModelRef) -> str | None:
    return f"{ref.endpoint}/{ref.name}" if ref.name else None


def _text(message: judge.Message) -> str:
    return "\n".join(map(_part, message.parts))


def _part(part: judge.Part) -> str:
    match part.WhichOneof("kind"):
        case "text":
            return part.text
        case "reasoning":
            return part.reasoning
        case "tool_call":
            return f"{part.tool_call.name} {part.tool_call.arguments_json}"
        case "tool_result":
            return part.tool_result.text
    return ""


def _point(point: events.LabelPoint) -> Point:
    kind = _name(events.PointKind, point.kind, "POINT_KIND_")
    rating = point.rating if point.HasField("rating") else None
    return Point(point.criterion, kind, point.text, rating, point.candidate)
