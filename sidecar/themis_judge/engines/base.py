"""The seam between the judge and whatever computes: a handful of methods in plain types.

An engine is asynchronous, takes one prompt a call and batches across calls by itself. Cancelling the
awaiting task withdraws the work; what a forward pass already holds is finished and thrown away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable


class EngineError(Exception):
    """The engine failed on this piece of work; others are unaffected."""


class EngineUnavailable(EngineError):
    """The engine is down, stuck or not loaded: nothing can be computed now."""


class EngineOverloaded(EngineError):
    """The engine's queue is full. `retry_after_s` is its own estimate."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PromptTooLong(EngineError):
    """The prompt does not fit the engine's context."""


class DeadlineExceeded(EngineError):
    """The deadline passed before the work was done."""


class Unsupported(EngineError):
    """This engine can't do what was asked."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, handed down instead of stacked time-outs."""

    at_s: float = math.inf

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def remaining_s(self) -> float:
        return self.at_s - time.monotonic()

    def passed(self) -> bool:
        return time.monotonic() >= self.at_s


NO_DEADLINE = Deadline()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, cut where other prompts may share its beginning.

    segments: token ids of each piece, in order; their concatenation is the prompt. Prompts that begin
        with equal segments share the computation of those. Empty for engines without a tokenizer.
    text: the user turn as text, without the chat template's control tokens.
    answer_start: the constant that begins the assistant's turn; the next token is what is asked for.
    """

    segments: tuple[tuple[int, ...], ...]
    text: str = ""
    answer_start: str = ""

    def __len__(self) -> int:
        return sum(map(len, self.segments))


@dataclass(frozen=True, slots=True)
class Labels:
    """The answers among which an engine tells probabilities.

    texts: what each label says; sequences: its token ids after the prompt's answer_start, none a prefix of
    another (engines without a tokenizer ignore them).
    """

    texts: tuple[str, ...]
    sequences: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call took. cached_tokens counts prompt tokens that were shared or held; times in seconds."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    queued_s: float = 0.0
    computed_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.queued_s + other.queued_s,
            self.computed_s + other.computed_s,
        )


@dataclass(frozen=True, slots=True)
class LabelScores:
    """logprobs: natural log-probability of each label under the full vocabulary, in the labels' order;
    None where the engine tells none, and then `chosen` is the index of the label it wrote."""

    logprobs: tuple[float, ...] | None
    usage: Usage = field(default_factory=Usage)
    chosen: int | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature 0 is greedy; `seed` makes samples repeatable on one engine; `stop` ends the text, and is
    not part of it; `grammar` is an EBNF grammar with a rule `root` that the text obeys."""

    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """cut: whether max_tokens ended it."""

    text: str
    cut: bool
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Natural log-likelihood of each token of a continuation after its prompt."""

    logprobs: tuple[float, ...]
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """name: the kind of engine; model: the model's name; context_tokens: the longest prompt with its answer;
    weights_digest: hex SHA-256 over the weights, empty where it can't be told; dtype: empty likewise."""

    name: str
    model: str
    context_tokens: int
    weights_digest: str = ""
    dtype: str = ""


class Tokenizer(Protocol):
    """Turns text into ids; data can never become control tokens."""

    def control(self, text: str) -> list[int]:
        """Ids of trusted text, control tokens recognised."""
        ...

    def data(self, text: str) -> list[int]:
        """Ids of untrusted text: no id of a control token, whatever the text spells."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def offsets(self, text: str) -> list[int]:
        """Where each of `data(text)`'s tokens starts, in characters."""
        ...

    def frame(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        """The chat template's texts around the contents of turns by `roles`: one more than there are turns,
        the last one ending in the assistant's header. Raises Unsupported for roles that the template refuses."""
        ...

    @property
    def header(self) -> str:
        """What the chat template puts before the assistant's words."""
        ...


class Engine(Protocol):
    """What computes. Every method may raise the errors above; nothing else means anything to callers."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """None where prompts go out as text."""
        ...

    @property
    def failure(self) -> str | None:
        """Why nothing can be computed any more; None while all is well. Never goes back to None."""
        ...

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores: ...

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation: ...

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], deadline: Deadline = NO_DEADLINE
    ) -> Likelihood: ...


@runtime_checkable
class Adaptable(Protocol):
    """What an engine offers as well where one set of weights serves several adapters (LoRA)."""

    def adapted(self, name: str, folder: Path, digest: str) -> Engine:
        """An engine of its own over this one's weights and the adapter in `folder`; `load` and `unload` concern the
        adapter alone. digest: tells its prompts from others' in whatever is held between calls."""
        ...
