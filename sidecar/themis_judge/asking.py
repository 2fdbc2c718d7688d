"""The steps that every kind of question to the judge shares: encode, ask, read."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

from themis_judge import verdict
from themis_judge.engines.base import Deadline, Engine, LabelScores, Prompt, PromptTooLong, Sampling, Usage
from themis_judge.errors import OffFormat
from themis_judge.items import Distribution, Rubric, Truncation
from themis_judge.prompts import Layout
from themis_judge.sharing import Shared
from themis_judge.tokens import Encoder

LABEL_RESERVE_TOKENS = 16  # room for a rating of ten digits, its closing mark included
_LONG_CHARACTERS = 65_536  # longer prompts are tokenised beside the event loop


@dataclass(slots=True)
class Work:
    """What one item has taken so far. tokenised_s in seconds; shown: its prompts as text, if kept."""

    deadline: Deadline
    keep_prompts: bool = False
    usage: Usage = field(default_factory=Usage)
    tokenised_s: float = 0.0
    cut_tokens: int = 0
    shown: list[str] = field(default_factory=list)


class Asker:
    """Puts prompts to one loaded engine."""

    def __init__(self, engine: Engine, label_mass_threshold: float) -> None:
        self.engine = engine
        self.encoder = Encoder(engine.tokenizer)
        self._threshold = label_mass_threshold
        self._shared = Shared(engine)

    async def encode(self, layout: Layout, policy: Truncation, work: Work, reserve_tokens: int) -> Prompt:
        """The prompt's ids, within the context less `reserve_tokens` for the answer, cut as the policy says.

        Raises PromptTooLong.
        """
        began = time.perf_counter()
        if layout.characters() > _LONG_CHARACTERS:
            prompt = await asyncio.to_thread(self.encoder.encode, layout)
        else:
            prompt = self.encoder.encode(layout)
        excess = len(prompt) + reserve_tokens - self.engine.info.context_tokens
        if excess > 0:
            prompt = self._cut(layout, policy, excess, work, len(prompt) + reserve_tokens)
        work.tokenised_s += time.perf_counter() - began
        if work.keep_prompts:
            work.shown.append(f"{prompt.text}\n{prompt.answer_start}")
        return prompt

    def _cut(self, layout: Layout, policy: Truncation, excess: int, work: Work, needed: int) -> Prompt:
        from_start = policy is Truncation.CONVERSATION_START
        section = layout.conversation if from_start else layout.response
        cut = None
        if policy is not Truncation.REFUSE:
            cut = self.encoder.encode_cut(layout, section, excess, from_start)
        if cut is None:
            raise self.too_long(needed)
        work.cut_tokens = max(work.cut_tokens, cut.cut_tokens)
        return cut.prompt

    def too_long(self, tokens: int) -> PromptTooLong:
        limit = self.engine.info.context_tokens
        return PromptTooLong(
            f"needs {tokens} tokens with its answer, and the judge's context holds {limit}; "
            "shorten it, or set a truncation policy that has enough to cut"
        )

    async def rating(self, prompt: Prompt, rubric: Rubric, work: Work) -> Distribution:
        """The rating's distribution after a prompt that ends where the rating stands. Raises OffFormat."""
        ratings = tuple(range(rubric.scale_min, rubric.scale_max + 1))
        return self.told(ratings, await self.labels(prompt, tuple(map(str, ratings)), work))

    async def labels(self, prompt: Prompt, texts: tuple[str, ...], work: Work) -> LabelScores:
        scores = await self._shared.labels(prompt, self.encoder.labels(texts), work.deadline)
        work.usage += scores.usage
        return scores

    def told(self, ratings: tuple[int, ...], scores: LabelScores) -> Distribution:
        """The distribution, if enough of the judge's probability was on labels. Raises OffFormat."""
        found = verdict.distribution(ratings, scores)
        if found is None:
            raise OffFormat("the judge's answer holds none of the labels that were asked for", "no_label")
        if found.label_mass is not None and found.label_mass < self._threshold:
            raise OffFormat(
                f"the judge gave all labels together a probability of {found.label_mass:.3g}, "
                f"below its threshold of {self._threshold:.3g}",
                "label_mass",
            )
        return found

    async def generate(self, prompt: Prompt, sampling: Sampling, work: Work) -> tuple[str, bool]:
        """The text, and whether it was cut at the sampling's limit."""
        made = await self._shared.generate(prompt, sampling, work.deadline)
        work.usage += made.usage
        return made.text, made.cut

    def extend(self, prompt: Prompt, written: str, constant: str = "") -> Prompt:
        """The prompt after the judge wrote something and a constant followed."""
        start = prompt.answer_start + written + constant
        tokenizer = self.engine.tokenizer
        if tokenizer is None:
            return replace(prompt, answer_start=start)
        segment = (*tokenizer.data(written), *self.encoder.static(constant))
        return replace(prompt, segments=(*prompt.segments, segment), answer_start=start)
