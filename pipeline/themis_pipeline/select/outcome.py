"""What became of each candidate, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from themis_pipeline.select.outliers import Spread
from themis_pipeline.select.triggers import Trigger


class Reason(str, Enum):
    """In the order in which they are asked, but that a source's share is known when the rest is chosen; a candidate has
    the first that holds."""

    OWN_LINEAGE = "labelled by the judge's lineage"
    NOT_SCORED = "without a difficulty"
    OTHER_SCORER = "of another scorer"
    REPEATED = "repeated"
    INCOMPLETE_PAIR = "one order of a pair"
    NEAR_DUPLICATE = "near-duplicate"
    TRIGGER = "trigger"
    OUTLIER = "outlier"
    ABOVE_ONE = "above 1"
    SOURCE_CAP = "above the source's share"
    NOT_ASKED = "scenario not asked for"
    NOT_CHOSEN = "not chosen"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Decision:
    """detail: what the reason rests on, ids and figures alone. place: which record it is, of several with one id."""

    id: str
    scenario: str
    template: str
    rating: str
    difficulty: float | None
    reason: Reason
    detail: str = ""
    source: str = ""
    place: str = ""

    @property
    def kept(self) -> bool:
        return self.reason is Reason.KEPT


@dataclass(frozen=True, slots=True)
class Outcome:
    """decisions: one per candidate, in their order. pool: what outliers were told by. shortfall: by scenario, how many
    records fewer there were than were asked for. limit: the difficulty above which the prompt harms."""

    decisions: tuple[Decision, ...]
    pool: Mapping[tuple[str, str], Spread]
    triggers: tuple[Trigger, ...]
    shortfall: Mapping[str, int]
    limit: float

    @property
    def kept(self) -> tuple[str, ...]:
        return tuple(decision.id for decision in self.decisions if decision.kept)

    @property
    def kept_places(self) -> frozenset[str]:
        return frozenset(decision.place for decision in self.decisions if decision.kept)

    @property
    def counts(self) -> Mapping[Reason, int]:
        counted = Counter(decision.reason for decision in self.decisions)
        return {reason: counted[reason] for reason in Reason}
