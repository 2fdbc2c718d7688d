"""Settings of the HTTP port's second use: as a reward server of the kinds that trainers know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from themis_chat.templates import Markers, Template, by_markers, by_name, plain
from themis_chat.turns import THINK
from themis_sidecar.config.section import Section


class MarkersConfig(Section):
    r"""How the policy's chat template spells a chat, for `template` markers."""

    starts: Mapping[str, str] = Field(default_factory=dict)
    """What stands before a turn's text, by role: system, user, assistant, tool."""
    end: str = ""
    """What closes a turn."""
    ends: Mapping[str, str] = Field(default_factory=dict)
    """The same by role where they differ; empty where the next turn's start is all that ends it."""
    gap: str = ""
    """What follows the end of a turn."""
    generation: str = ""
    """What stands before the reply that the policy writes."""
    bos: str = ""
    """What a text begins with."""
    stops: tuple[str, ...] = ()
    """Tokens that end a reply, beside the end of a turn."""
    pads: tuple[str, ...] = ()
    """Tokens that fill up a batch."""
    control: tuple[str, ...] = ()
    """Tokens that can't stand within a turn's text."""

    def markers(self, think: tuple[str, str] = THINK) -> Markers:
        """think: the tags of reasoning. Raises ValueError where turns could not be told apart."""
        return Markers(**self.model_dump(), think=think)


class ThinkConfig(Section):
    """The tags between which the policy reasons."""

    opening: str = Field(default=THINK[0], min_length=1)
    """What its reasoning begins with."""
    closing: str = Field(default=THINK[1], min_length=1)
    """What its reasoning ends with."""

    @property
    def tags(self) -> tuple[str, str]:
        return self.opening, self.closing


class RewardsScaleConfig(Section):
    """What the scores 0 and 1 become as rewards."""

    low: float = Field(default=0.0, allow_inf_nan=False)
    """The reward for the score 0."""
    high: float = Field(default=1.0, allow_inf_nan=False)
    """The reward for the score 1."""

    def reward(self, score: float) -> float:
        return self.low + score * (self.high - self.low)


class CompatConfig(Section):
    """Routes of the HTTP port that speak as OpenRLHF's, slime's and vLLM's reward servers do."""

    enabled: bool = False
    """Whether there are such routes."""
    template: Literal["chatml", "llama3", "gemma", "mistral", "plain", "markers"] = "chatml"
    """The policy's chat template, by which prompts and responses are taken apart; plain: the whole prompt is one turn
    of the user's; markers: as http.compat.markers says."""
    markers: MarkersConfig = MarkersConfig()
    opened_thinking: bool = False
    """Whether replies begin within reasoning that the policy's template opened, where the prompt doesn't show it: for
    prompts that come as messages, and whole chats."""
    think: ThinkConfig = ThinkConfig()
    single_turn: bool = False
    """Whether whole chats that come as one string may hold nothing but system prompts, one turn of the user's and the
    reply: a reply that spells turns is then refused, and so are prompts of several turns."""
    scenario: str = ""
    """The scenario that all items are judged as; default: classified one by one."""
    thinking: Literal["strip", "judge", "apart"] = "strip"
    """What happens to a reply's reasoning: not shown to the judge, shown, or judged apart, which costs as much again
    and leaves the reward as with strip."""
    truncated: Literal["judge", "fail", "score", "ignore"] = "judge"
    """What becomes of a reply without a token that ends its turn: judged as cut off, failed with its call, or given
    truncated_score without being judged; ignore: nothing, for trainers that take such tokens away. fail and score need
    a template that has such a token."""
    truncated_score: float | None = Field(default=None, ge=0, le=1)
    """The score of such replies, 0 to 1, where `truncated` is score."""
    empty_score: float | None = Field(default=None, ge=0, le=1)
    """The score, 0 to 1, of replies that hold no answer, reasoning alone included unless it is judged; default: they
    fail with their call."""
    rewards_scale: RewardsScaleConfig = RewardsScaleConfig()
    timeout_s: PositiveFloat = 100.0
    """How long a call may take whose client names no time; below the 120 s of slime's client and the 180 s of
    OpenRLHF's. limits.max_deadline_s bounds every call."""
    max_body_bytes: PositiveInt = 16 * 1024 * 1024
    """Bytes of a request's body."""
    max_calls: PositiveInt = 1024
    """Such calls at a time, beside what http.max_connections leaves to others; beyond it they are refused."""

    @model_validator(mode="after")
    def _whole(self) -> CompatConfig:
        if self.template != "markers" and self.markers != MarkersConfig():
            raise ValueError("markers: are read with template markers only")
        template = self.policy_template()
        if self.truncated in ("fail", "score") and template.ended("") is None:
            raise ValueError(
                f"truncated: {self.truncated} needs a token that ends replies; the template {self.template} has none"
            )
        if (self.truncated == "score") != (self.truncated_score is not None):
            raise ValueError("truncated_score: goes with truncated score, and with nothing else")
        return self

    def policy_template(self) -> Template:
        """Raises ValueError for markers by which turns could not be told apart."""
        if self.template == "markers":
            return by_markers(self.markers.markers(self.think.tags))
        return plain() if self.template == "plain" else by_name(self.template, self.think.tags)
