"""A text that a model writes token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from themis_judge.engines.base import Generation, Sampling, Tokenizer, Usage
from themis_judge.engines.transformers.grammar import Matcher
from themis_judge.engines.transformers.tree import Buffer

_STOP_WINDOW_TOKENS = 16  # a stop text is looked for among the last tokens only


@dataclass(slots=True, eq=False)
class Draft:
    """One text in the making. prompt: the ids before it; ends: ids that end it (end of turn, end of text)."""

    sampling: Sampling
    tokenizer: Tokenizer
    ends: frozenset[int]
    prompt: list[int]
    buffer: Buffer
    matcher: Matcher | None
    usage: Usage
    ids: list[int] = field(default_factory=list)
    cut: bool = False
    _random: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        self._random.manual_seed(self.sampling.seed)

    def go_on(self, logits: torch.Tensor) -> bool:
        """Takes the next token from logits [V]; whether the text is complete."""
        if self.matcher is not None:
            logits = self.matcher.restrict(logits)
        token = self._choose(logits)
        complete = self.matcher.accept(token) if self.matcher is not None else False
        if token in self.ends:
            return True
        self.ids.append(token)
        if complete or self._met_stop():
            return True
        self.cut = len(self.ids) >= self.sampling.max_tokens
        return self.cut

    def generation(self) -> Generation:
        usage = Usage(self.usage.prompt_tokens, self.usage.cached_tokens, len(self.ids))
        return Generation(self._text(), self.cut, usage)

    def _text(self) -> str:
        text = self.tokenizer.decode(self.ids)
        for stop in self.sampling.stop:
            text = text.partition(stop)[0]
        return text

    def _choose(self, logits: torch.Tensor) -> int:
        if self.sampling.temperature == 0:
            return int(logits.argmax())
        weights = torch.softmax(logits.double() / self.sampling.temperature, -1)
        return int(torch.multinomial(weights.cpu(), 1, generator=self._random))

    def _met_stop(self) -> bool:
        if not self.sampling.stop:
            return False
        recent = self.tokenizer.decode(self.ids[-_STOP_WINDOW_TOKENS:])
        return any(stop in recent for stop in self.sampling.stop)


def next_tokens(drafts: Sequence[Draft]) -> list[tuple[int, Buffer]]:
    return [(draft.ids[-1], draft.buffer) for draft in drafts]
