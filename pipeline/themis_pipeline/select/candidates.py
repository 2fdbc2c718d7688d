"""What selection knows of a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from themis_pipeline.archive.record import Record

Definition = Literal["log_perplexity_ratio", "mean_loss_ratio"]
LIMITS: dict[Definition, float] = {"log_perplexity_ratio": 0.0, "mean_loss_ratio": 1.0}
"""Above them the prompt harms: the ratio itself is above 1."""

PLANS = "quiz"
"""The origin of instructions that no text of people's goes into."""

_ROLES = {("a", 0): "wins", ("a", 1): "loses", ("b", 0): "loses", ("b", 1): "wins"}


class MixedScorers(ValueError):
    """Difficulties of different scorers can't be compared: one has to be named."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """rating: as a text, for a pair which of the two is better. template: records of one template are compared with one
    another. pair: what both orders share. instruction: what all responses to one instruction share; `asked` is its
    text. answers: for each response its text and what became of it ("4", "wins", "loses", "tie"). source: who fed it;
    people_fed: not the pipeline's own plans alone. place: where it stands in the archive; no two stand in one."""

    id: str
    scenario: str
    template: str
    rating: str
    difficulty: float | None
    scorer: str | None = None
    pair: str | None = None
    swapped: bool = False
    instruction: str = ""
    asked: str = ""
    answers: tuple[tuple[str, str], ...] = ()
    own_lineage: bool = False
    source: str = ""
    people_fed: bool = False
    place: str = ""


def candidates_of(records: Iterable[Record], definition: Definition) -> Iterator[Candidate]:
    """Difficulties by the definition named; None for a record that has none."""
    for record in records:
        rating = str(record.rating) if record.rating is not None else str(record.preference)
        roles = (_ROLES.get((rating, place), rating) for place in range(len(record.responses)))
        yield Candidate(
            id=record.id,
            scenario=record.scenario,
            template=record.mode,
            rating=rating,
            difficulty=getattr(record, definition),
            scorer=record.scorer,
            pair=record.pair,
            swapped=record.swapped,
            instruction=record.instruction,
            asked="\n".join(turn.text for turn in record.messages),
            answers=tuple(zip(record.responses, roles, strict=True)),
            own_lineage=record.teacher_lineage is not None and record.teacher_lineage == record.judge_lineage,
            source=record.source,
            people_fed=record.instruction_origin != PLANS,
            place=place_of(record),
        )


def place_of(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
