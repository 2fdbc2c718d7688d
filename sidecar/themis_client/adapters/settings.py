"""How a reward is made: which judges score, with what weights, and what is added, taken off, scaled and clipped.

    value = shift + scale * (sum of weight * score - length penalty - truncation penalty), then clipped

Scores are in [0, 1]. Nothing is normalised within a group: that is the trainer's part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from themis_client.aio import DEFAULT_TARGET
from themis_client.content import Rubric
from themis_client.credentials import PathLike, Tls
from themis_client.options import RatingMode, ReasoningPolicy, ScoreOptions, Truncation
from themis_client.retry import RetryPolicy
from themis_client.tournament import Tournament

RANKS_MARGIN_S = 600.0

OnFailure: TypeAlias = Literal["raise", "none"] | float
"""What a sample without a score becomes: the call raises, None, or the number that is written here."""


def _finite(value: object, field: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{field}: a finite number is needed, not {value!r}")


def _named(value: str, field: str) -> None:
    if not value or any(not (sign.isalnum() or sign in "_-.") for sign in value):
        raise ValueError(f"{field}: letters, digits and _-. are needed, not {value!r}")


@dataclass(frozen=True, slots=True)
class JudgePart:
    """One judge, or one rubric of a judge, and its weight in the reward.

    name: under which it is logged. scenario: in place of the sample's own. target, version: of another judge; None is
    the settings'. reasoning_weight: of the verdict on the policy's reasoning, where `options.reasoning_policy` is
    APART; it is needed there, and means nothing elsewhere. tournament: in place of ratings the completions of each
    prompt are compared with each other, and a score is the share of its comparisons that a completion wins; they have
    to come in one call, so that with several ranks a group must not be spread over them.
    """

    name: str = "judge"
    weight: float = 1.0
    options: ScoreOptions = ScoreOptions()  # noqa: RUF009 - frozen
    rubric: Rubric | None = None
    scenario: str = ""
    target: str | None = None
    version: str | None = None
    reasoning_weight: float | None = None
    tournament: Tournament | None = None

    def __post_init__(self) -> None:
        _named(self.name, "name")
        _finite(self.weight, "weight")
        apart = self.options.reasoning_policy is ReasoningPolicy.APART
        if self.options.version is not None:
            raise ValueError(f"part {self.name!r}: its version is its own field, not one of its options")
        rated = apart or self.options.mode != RatingMode() or self.options.truncation is not Truncation.REFUSE
        if self.tournament is not None and rated:
            raise ValueError(
                f"part {self.name!r}: a tournament compares, and has neither modes nor truncation nor reasoning apart"
            )
        if apart == (self.reasoning_weight is None):
            raise ValueError(f"part {self.name!r}: reasoning_weight goes with reasoning_policy APART, and only with it")


@dataclass(frozen=True, slots=True)
class LengthPenalty:
    """Nothing up to free_tokens of the policy's tokens, then in proportion, and `most` from full_tokens on."""

    free_tokens: int
    full_tokens: int
    most: float = 1.0

    def __post_init__(self) -> None:
        _finite(self.most, "length.most")
        if not 0 <= self.free_tokens < self.full_tokens:
            raise ValueError("length: 0 <= free_tokens < full_tokens is needed")

    def of(self, tokens: int) -> float:
        share = (tokens - self.free_tokens) / (self.full_tokens - self.free_tokens)
        return self.most * min(1.0, max(0.0, share))


@dataclass(frozen=True, slots=True)
class TruncationPenalty:
    """Taken off the score of a completion that was cut at its token limit."""

    amount: float

    def __post_init__(self) -> None:
        _finite(self.amount, "truncated.amount")


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a policy's reasoning is recognised in its text; what the judge makes of it is each part's reasoning_policy.

    tags: what opens and closes it. opened: the prompt ends with the opening tag, so that completions begin inside.
    no_answer: what a completion becomes whose reasoning was never closed or is followed by nothing: a failure with the
    status NO_ANSWER ("fail"), or a reward that is written here.
    """

    tags: tuple[str, str] = ("<think>", "</think>")
    opened: bool = False
    no_answer: Literal["fail"] | float = "fail"

    def __post_init__(self) -> None:
        if not all(self.tags) or self.tags[0] == self.tags[1]:
            raise ValueError("thinking.tags: two different texts are needed")
        if not isinstance(self.opened, bool):
            raise ValueError(f"thinking.opened: true or false is needed, not {self.opened!r}")
        if self.no_answer != "fail":
            _finite(self.no_answer, "thinking.no_answer")


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """target, version, tls, token_file, retry: as in Client, but that retries last as long as the call may: a judge
    that restarts costs a step some minutes, not the run. timeout_s: for all scores of a call, retries included.

    run: a name by which the processes of one run agree on one judge version, and hold it; it needs servers with a
    store of versions. Without it each process pins what is current at its first call.
    truncated: what a completion becomes that was cut at its token limit: judged like any other ("judge"), a failure
    with the status TRUNCATED ("fail"), or judged with a penalty.
    ranks_wait_s: how long a rank waits for the others at the end of a call, to fail together with them: longer than
    timeout_s, or a slow rank would pass for a dead one; None is ten minutes more.
    """

    target: str = DEFAULT_TARGET
    parts: tuple[JudgePart, ...] = (JudgePart(),)
    on_failure: OnFailure = "raise"
    timeout_s: float = 300.0
    version: str | None = None
    run: str = ""
    thinking: Thinking | None = Thinking()
    truncated: Literal["judge", "fail"] | TruncationPenalty = "judge"
    length: LengthPenalty | None = None
    scale: float = 1.0
    shift: float = 0.0
    clip: tuple[float, float] | None = None
    tls: Tls | None = None
    token_file: PathLike | None = None
    retry: RetryPolicy = RetryPolicy(attempts=100)  # noqa: RUF009 - frozen
    ranks_wait_s: float | None = None

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if not names or len(set(names)) < len(names):
            raise ValueError("parts: at least one is needed, and each has a name of its own")
        _finite(self.scale, "scale")
        _finite(self.shift, "shift")
        if self.on_failure not in ("raise", "none"):
            _finite(self.on_failure, "on_failure")
        if self.truncated not in ("judge", "fail") and not isinstance(self.truncated, TruncationPenalty):
            raise ValueError('truncated: "judge", "fail" or a TruncationPenalty is needed')
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError("clip: the lower bound comes first")
        _finite(self.timeout_s, "timeout_s")
        if self.timeout_s <= 0:
            raise ValueError("timeout_s: seconds, more than 0, are needed")
        if self.ranks_wait_s is not None:
            _finite(self.ranks_wait_s, "ranks_wait_s")
            if self.ranks_wait_s <= self.timeout_s:
                raise ValueError("ranks_wait_s: has to be longer than timeout_s")
        if self.run and self.version is not None:
            raise ValueError("run: the processes of a run agree on a version, so none can be pinned beside it")

    @property
    def for_ranks_s(self) -> float:
        """How long a rank waits for the others, in seconds."""
        return self.timeout_s + RANKS_MARGIN_S if self.ranks_wait_s is None else self.ranks_wait_s
