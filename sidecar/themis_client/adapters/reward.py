"""What a sample came to: a reward with all that it was made of, or none and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, TypeAlias

from themis_client.failure import Failure

TRUNCATED = "TRUNCATED"
NO_ANSWER = "NO_ANSWER"


@dataclass(frozen=True, slots=True)
class Reward:
    """value: what the trainer gets. scores: of each part, in [0, 1], that of a part's reasoning under "NAME/reasoning".
    length_penalty, truncation_penalty: what was taken off, before scale and shift. clipped: whether clipping changed
    the value. truncated: whether the completion was cut. versions: of each part's judge. named: the setting that the
    value was written down in, in place of a score; empty where the judge scored."""

    value: float
    scores: Mapping[str, float] = field(default_factory=dict)
    length_penalty: float = 0.0
    truncation_penalty: float = 0.0
    clipped: bool = False
    truncated: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    named: str = ""

    @property
    def status(self) -> str:
        """What stands for it in a trainer's log."""
        return self.named or "OK"

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True, slots=True)
class NoReward:
    """status: of the contract's item statuses, or TRUNCATED or NO_ANSWER. part: whose score is missing; empty where
    none was asked. truncated: whether the completion was cut."""

    status: str
    error: str
    part: str = ""
    truncated: bool = False

    scores: ClassVar[Mapping[str, float]] = MappingProxyType({})
    versions: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @classmethod
    def of(cls, failure: Failure, part: str) -> NoReward:
        where = f"{failure.field}: " if failure.field else ""
        return cls(failure.status.name, f"{where}{failure.error}", part)

    def __str__(self) -> str:
        return f"{self.part or 'the sample'}: {self.status}: {self.error}"


Outcome: TypeAlias = Reward | NoReward
