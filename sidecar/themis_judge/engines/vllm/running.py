"""A vLLM that runs, and the three questions that the seam knows. Loads vLLM: `launch.prepare` comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from transformers import AutoTokenizer

from themis_judge.engines.base import (
    NO_DEADLINE,
    Deadline,
    EngineInfo,
    EngineUnavailable,
    Generation,
    Labels,
    LabelScores,
    Likelihood,
    Prompt,
    PromptTooLong,
    Sampling,
    Usage,
)
from themis_judge.engines.tokenizer import HFTokenizer
from themis_judge.engines.vllm import questions
from themis_judge.engines.vllm.core import Core
from themis_judge.engines.vllm.lane import Lane
from themis_judge.engines.vllm.launch import start
from themis_judge.engines.vllm.reads import reads as reads_of
from themis_judge.engines.vllm.settings import VLLMSettings
from themis_judge.engines.weights import Loaded
from themis_judge.lru import LRU

_HELD_LABEL_SETS = 256

# A beginning that labels share, the tokens that may follow it, and the sampling parameters that ask for them.
Read: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], Any]


@dataclass(frozen=True, slots=True)
class Running:
    """by_ids: see questions.continuation."""

    core: Core
    tokenizer: HFTokenizer
    info: EngineInfo
    by_ids: bool
    _reads: LRU[tuple[tuple[int, ...], ...], list[Read]] = field(default_factory=lambda: LRU(_HELD_LABEL_SETS))

    async def label_logprobs(self, prompt: Prompt, labels: Labels, lane: Lane, deadline: Deadline) -> LabelScores:
        """One prefill where the labels are single tokens; else one for each beginning that some of them share."""
        self._check_length(len(prompt) + max(map(len, labels.sequences)))
        reads = self._reads_of(labels.sequences)
        ids = _flat(prompt)
        requests = [([*ids, *beginning], params) for beginning, _, params in reads]
        outputs = await self.core.ask(requests, lane, deadline)
        told: dict[tuple[int, ...], float] = {}
        for (beginning, tokens, _), output in zip(reads, outputs, strict=True):
            for token, logprob in zip(tokens, questions.told_next(output, tokens), strict=True):
                told[(*beginning, token)] = logprob
        logprobs = [sum(told[sequence[: at + 1]] for at in range(len(sequence))) for sequence in labels.sequences]
        usages = [questions.usage(output, len(ids)) for output in outputs]
        return LabelScores(tuple(logprobs), _at_once(usages))

    async def generate(self, prompt: Prompt, sampling: Sampling, lane: Lane, deadline: Deadline) -> Generation:
        self._check_length(len(prompt) + sampling.max_tokens)
        request = (_flat(prompt), questions.text(sampling, self.tokenizer))
        (output,) = await self.core.ask([request], lane, deadline)
        text, tokens, cut = questions.told_text(output, sampling, self.tokenizer)
        return Generation(text, cut, questions.usage(output, len(prompt), tokens))

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], lane: Lane, deadline: Deadline
    ) -> Likelihood:
        self._check_length(len(prompt) + len(continuation))
        params = questions.continuation(len(prompt), continuation, self.by_ids)
        # The last token is asked for as the next one, so that a text as long as the context has room for it.
        (output,) = await self.core.ask([([*_flat(prompt), *continuation[:-1]], params)], lane, deadline)
        told = questions.told_continuation(output, len(prompt), continuation, self.by_ids)
        return Likelihood(tuple(told), questions.usage(output, len(prompt)))

    def _check_length(self, tokens: int) -> None:
        if tokens > self.info.context_tokens:
            raise PromptTooLong(f"needs {tokens} tokens with its answer; the context holds {self.info.context_tokens}")

    def _reads_of(self, sequences: tuple[tuple[int, ...], ...]) -> list[Read]:
        reads = self._reads.get(sequences)
        if reads is None:
            reads = [(start, tokens, questions.next_tokens(tokens)) for start, tokens in reads_of(sequences)]
            self._reads.put(sequences, reads)
        return reads


async def run(settings: VLLMSettings, loaded: Loaded) -> Running:
    """Starts vLLM and asks it something, so that what can't answer fails here. Raises EngineUnavailable."""
    tokenizer = await asyncio.to_thread(_tokenizer, settings, loaded)
    started = await asyncio.to_thread(start, settings, loaded.folder)
    model = started.llm.model_config
    dtype = str(model.dtype).removeprefix("torch.")
    running = Running(
        Core(started, settings.max_in_flight, settings.stuck_after_s),
        tokenizer,
        EngineInfo("vllm", loaded.name, int(model.max_model_len), loaded.weights_digest, dtype),
        questions.tells_by_ids(started.llm.vllm_config),
    )
    try:
        await running.core.open()
        lane = Lane(loaded.weights_digest)
        await running.label_logprobs(Prompt(((0,),)), Labels(("",), ((0,),)), lane, NO_DEADLINE)
    except BaseException:
        await running.core.close()  # or vLLM's processes would outlive a load that failed
        raise
    return running


def _tokenizer(settings: VLLMSettings, loaded: Loaded) -> HFTokenizer:
    try:
        return HFTokenizer(AutoTokenizer.from_pretrained(loaded.folder, trust_remote_code=settings.trust_remote_code))
    except (OSError, ValueError) as error:
        raise EngineUnavailable(f"{loaded.name} has no tokenizer that can be used: {error}") from error


def _at_once(usages: Sequence[Usage]) -> Usage:
    """Of requests that ran side by side: tokens of the first, which is the prompt itself, and the longest times."""
    first = usages[0]
    return Usage(
        first.prompt_tokens,
        first.cached_tokens,
        queued_s=max(usage.queued_s for usage in usages),
        computed_s=max(usage.computed_s for usage in usages),
    )


def _flat(prompt: Prompt) -> list[int]:
    return [token for segment in prompt.segments for token in segment]
