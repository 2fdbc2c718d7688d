"""How items are judged. Every None is the server's default, as the contract states it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class RatingMode:
    """Only the rating: one prefill."""


@dataclass(frozen=True, slots=True)
class CritiqueMode:
    """The rating, then strengths and shortcomings."""

    max_points: int | None = None
    max_point_chars: int | None = None


@dataclass(frozen=True, slots=True)
class ReasoningMode:
    """Reasons first, then the rating, averaged over samples."""

    samples: int | None = None
    seed: int | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class CriteriaMode:
    """One rating per criterion, aggregated by weight."""


Mode: TypeAlias = RatingMode | CritiqueMode | ReasoningMode | CriteriaMode
ModeName: TypeAlias = Literal["rating", "critique", "reasoning", "criteria"]

MODES: dict[ModeName, type[RatingMode] | type[CritiqueMode] | type[ReasoningMode] | type[CriteriaMode]] = {
    "rating": RatingMode,
    "critique": CritiqueMode,
    "reasoning": ReasoningMode,
    "criteria": CriteriaMode,
}


class Truncation(enum.Enum):
    """What happens to an item that doesn't fit the judge's context; whatever is cut is reported."""

    REFUSE = 1
    CONVERSATION_START = 2
    RESPONSE_END = 3


class ReasoningPolicy(enum.Enum):
    """What happens to reasoning parts of the judged response: not shown, shown and judged, or judged apart."""

    STRIP = 1
    JUDGE = 2
    APART = 3


class Orders(enum.Enum):
    """In which order the judge sees two responses."""

    BOTH = 1
    A_FIRST = 2
    B_FIRST = 3


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """mode: a mode with its settings. version: None or "current" is the version that the client has pinned."""

    mode: Mode = RatingMode()
    version: str | None = None
    truncation: Truncation = Truncation.REFUSE
    reasoning_policy: ReasoningPolicy = ReasoningPolicy.STRIP
    return_prompt: bool = False


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """As ScoreOptions. Both orders cost two prefills and cancel position bias."""

    orders: Orders = Orders.BOTH
    version: str | None = None
    reasoning_policy: ReasoningPolicy = ReasoningPolicy.STRIP
    return_prompt: bool = False
