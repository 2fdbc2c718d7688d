"""What is judged and what comes back, in plain types: the contract's messages without gRPC."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from themis_judge.engines.base import Usage

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments_json: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    text: str
    id: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """Reserved: refused as unsupported."""

    uri: str = ""


Part: TypeAlias = "Text | Reasoning | ToolCall | ToolResult | Image"


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, role: str, text: str) -> Message:
        return cls(role, (Text(text),))


class FinishReason(Enum):
    UNSPECIFIED = 0
    STOP = 1
    LENGTH = 2
    TOOL_CALLS = 3
    CONTENT_FILTER = 4


@dataclass(frozen=True, slots=True)
class Response:
    messages: tuple[Message, ...]
    finish_reason: FinishReason = FinishReason.UNSPECIFIED

    @classmethod
    def of(cls, text: str) -> Response:
        return cls((Message.of("assistant", text),))


@dataclass(frozen=True, slots=True)
class Criterion:
    id: str
    text: str
    name: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Rubric:
    """criteria in descending order of importance; ratings are the integers scale_min..scale_max."""

    criteria: tuple[Criterion, ...]
    scale_min: int = 1
    scale_max: int = 5


@dataclass(frozen=True, slots=True)
class Item:
    """One response to rate. See proto/themis/v1/judge.proto, message Item, for each field."""

    messages: tuple[Message, ...]
    response: Response
    reference: str | None = None
    scenario: str = ""
    rubric: Rubric | None = None
    key: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    messages: tuple[Message, ...]
    response_a: Response
    response_b: Response
    reference: str | None = None
    scenario: str = ""
    rubric: Rubric | None = None
    key: str = ""


class Truncation(Enum):
    REFUSE = 1
    CONVERSATION_START = 2
    RESPONSE_END = 3


class ReasoningPolicy(Enum):
    STRIP = 1
    JUDGE = 2
    APART = 3


class Orders(Enum):
    BOTH = 1
    A_FIRST = 2
    B_FIRST = 3


@dataclass(frozen=True, slots=True)
class RatingMode:
    pass


@dataclass(frozen=True, slots=True)
class CritiqueMode:
    max_points: int = 3
    max_point_chars: int = 240


@dataclass(frozen=True, slots=True)
class ReasoningMode:
    samples: int = 1
    seed: int = 0
    temperature: float | None = None  # 0 for one sample, else 0.7
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class CriteriaMode:
    pass


Mode: TypeAlias = "RatingMode | CritiqueMode | ReasoningMode | CriteriaMode"


@dataclass(frozen=True, slots=True)
class Options:
    mode: Mode = field(default_factory=RatingMode)
    truncation: Truncation = Truncation.REFUSE
    reasoning_policy: ReasoningPolicy = ReasoningPolicy.STRIP
    return_prompt: bool = False


class Status(Enum):
    """What became of one item; numbers as in the contract's ItemStatus."""

    OK = 1
    INVALID = 2
    TOO_LONG = 3
    OFF_FORMAT = 4
    DEADLINE_EXCEEDED = 5
    OVERLOADED = 6
    UNAVAILABLE = 7
    ENGINE_ERROR = 8
    UNSUPPORTED = 9


@dataclass(frozen=True, slots=True)
class Distribution:
    """Ratings and their probabilities (summing to 1), ascending; `probabilities` is None where the engine
    told none, and then `chosen` is the rating it wrote. label_mass: probability of all labels together."""

    ratings: tuple[int, ...]
    probabilities: tuple[float, ...] | None
    label_mass: float | None
    expected: float
    chosen: int


@dataclass(frozen=True, slots=True)
class Point:
    text: str
    rating: int


@dataclass(frozen=True, slots=True)
class Critique:
    strengths: tuple[Point, ...]
    shortcomings: tuple[Point, ...]
    text: str


@dataclass(frozen=True, slots=True)
class CriterionVerdict:
    id: str
    weight: float  # normalised: all sum to 1
    rating: Distribution


@dataclass(frozen=True, slots=True)
class Sample:
    reasons: str
    expected: float
    cut: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """score: the expected rating mapped to [0, 1] on the rubric's scale; entropy in nats."""

    rating: Distribution
    score: float
    entropy: float | None
    critique: Critique | None = None
    criteria: tuple[CriterionVerdict, ...] = ()
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one item. `verdict` is there if and only if `status` is OK; `off_format` is the OffFormat's
    reason if and only if `status` is OFF_FORMAT, in this and in the other results."""

    status: Status
    verdict: Verdict | None = None
    reasoning_verdict: Verdict | None = None
    error: str = ""
    error_field: str = ""  # a path from the item, "messages[0].role"
    scenario: str = ""
    scenario_probability: float | None = None
    usage: Usage = field(default_factory=Usage)
    tokenised_s: float = 0.0
    off_format: str = ""
    prompt: str | None = None
    truncated_tokens: int = 0
    reference_used: bool = False


@dataclass(frozen=True, slots=True)
class Preference:
    """Probabilities of A better, B better, tie; averaged over the orders. choice: "A", "B" or "tie"."""

    choice: str
    probabilities: tuple[float, float, float]
    order_disagreement: float | None
    label_mass: float | None


@dataclass(frozen=True, slots=True)
class CompareResult:
    status: Status
    verdict: Preference | None = None
    error: str = ""
    error_field: str = ""
    scenario: str = ""
    usage: Usage = field(default_factory=Usage)
    tokenised_s: float = 0.0
    off_format: str = ""
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Classification:
    status: Status
    scenario: str = ""
    probabilities: tuple[float, ...] = ()  # in the scenarios' order; empty where the engine tells none
    label_mass: float | None = None
    error: str = ""
    error_field: str = ""
    usage: Usage = field(default_factory=Usage)
    tokenised_s: float = 0.0
    off_format: str = ""


@dataclass(frozen=True, slots=True)
class TokenLikelihood:
    start_byte: int
    conditional: float
    unconditional: float


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Sums over the same tokens of the answer; natural logarithms; None unless OK."""

    status: Status
    conditional: float | None = None
    unconditional: float | None = None
    answer_tokens: int = 0
    tokens: tuple[TokenLikelihood, ...] = ()
    error: str = ""
    error_field: str = ""
    usage: Usage = field(default_factory=Usage)
    tokenised_s: float = 0.0
    off_format: str = ""
