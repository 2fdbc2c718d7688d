"""The engine behind the seam: one model, one thread that computes, one tree per batch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias, TypeVar, cast

import torch

from themis_judge.engines.base import (
    NO_DEADLINE,
    BatchObserver,
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
    Tokenizer,
    Usage,
    unobserved,
)
from themis_judge.engines.batching import Batcher
from themis_judge.engines.tokenizer import HFTokenizer
from themis_judge.engines.transformers.allocator import keep_freed_memory
from themis_judge.engines.transformers.grammar import Grammars, Matcher
from themis_judge.engines.transformers.model import Model
from themis_judge.engines.transformers.planting import BatchTree, Holder, held_depth, path_keys
from themis_judge.engines.transformers.tree import Buffer, Node
from themis_judge.engines.transformers.writing import Draft, next_tokens
from themis_judge.engines.weights import Loaded, locate
from themis_judge.lru import LRU

_ROWS_AT_ONCE = 256  # rows of logits in memory at a time
_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class TransformersSettings:
    """model: a folder, a GGUF file or a hub name; dtype: "bfloat16", "float32" or "float16"; device: "cpu",
    "cuda", "cuda:1"; threads: for CPU, 0 for all cores; max_batch_tokens and max_batch_s bound a batch by
    distinct tokens and by expected seconds; cache_tokens: tokens whose keys and values are held for sharing;
    stuck_after_s: a batch that takes longer ends the engine; context_tokens: 0 for the model's own;
    trust_remote_code: whether code that comes with a model is run, with all that this process may do."""

    model: str
    dtype: str = "bfloat16"
    device: str = "cpu"
    threads: int = 0
    max_batch_tokens: int = 16_384
    max_batch_s: float = 3.0
    cache_tokens: int = 32_768
    stuck_after_s: float = 120.0
    context_tokens: int = 0
    trust_remote_code: bool = False


@dataclass(slots=True, eq=False)
class LabelJob:
    prompt: Prompt
    labels: Labels


@dataclass(slots=True, eq=False)
class LikelihoodJob:
    prompt: Prompt
    continuation: tuple[int, ...]


@dataclass(slots=True, eq=False)
class WritingJob:
    prompt: Prompt
    sampling: Sampling


Job: TypeAlias = LabelJob | LikelihoodJob | WritingJob
Outcome: TypeAlias = LabelScores | Likelihood | Generation
O = TypeVar("O", LabelScores, Likelihood, Generation)  # noqa: E741


@dataclass(slots=True)
class _Asked:
    """Where one job's answer stands in a pass: the log-probability of a token after (node, index), each."""

    job: Job
    leaf: Node
    usage: Usage
    reads: list[tuple[Node, int, int]] = field(default_factory=list)


class TreeBackend:
    """Computes a batch as one tree; heads and conversations are held between batches."""

    def __init__(self, model: Model, tokenizer: HFTokenizer, cache_tokens: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._held: Holder = LRU(cache_tokens if model.shares else 0)
        self._grammars: Grammars | None = None
        self._drafts: dict[int, tuple[Job, Draft]] = {}

    def distinct_tokens(self, job: Job, seen: set[object]) -> int:
        keys = path_keys(job.prompt)
        fresh = [key for key in keys[held_depth(keys, self._held) :] if key not in seen]
        seen.update(fresh)
        own = len(job.continuation) if isinstance(job, LikelihoodJob) else 0
        return own + sum(len(key[1]) for key in fresh)

    def start(self, jobs: Sequence[Job]) -> list[Outcome | None]:
        tree = BatchTree(self._held)
        asked = [self._ask(job, tree) for job in jobs]
        hidden = self._model.nodes(tree.nodes, tree.kept)
        tree.hold()
        told = iter(self._read(asked, hidden))
        return [self._answer(one, hidden, told) for one in asked]

    def step(self) -> list[tuple[Job, Outcome | Exception]]:
        drafts = [draft for _, draft in self._drafts.values()]
        if not drafts:
            return []
        if self._model.shares:
            hidden = self._model.steps(next_tokens(drafts))
        else:
            hidden = self._model.last([draft.prompt + draft.ids for draft in drafts])
        done: list[tuple[Job, Outcome | Exception]] = []
        for (job, draft), logits in zip(list(self._drafts.values()), self._model.quick_logits(hidden), strict=True):
            if draft.go_on(logits):
                done.append((job, draft.generation()))
                del self._drafts[id(job)]
        return done

    def drop(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._drafts.pop(id(job), None)

    def _ask(self, job: Job, tree: BatchTree) -> _Asked:
        leaf, shared = tree.add(job.prompt, keep_leaf=isinstance(job, WritingJob))
        asked = _Asked(job, leaf, Usage(len(job.prompt), shared))
        if isinstance(job, LabelJob):
            asked.reads = [read for label in job.labels.sequences for read in _reads(leaf, label, tree, spread=True)]
        elif isinstance(job, LikelihoodJob):
            asked.reads = _reads(leaf, job.continuation, tree, spread=False)
        return asked

    @torch.inference_mode()
    def _read(self, asked: Sequence[_Asked], hidden: dict[int, torch.Tensor]) -> list[float]:
        """The log-probability of every read of every job, in order; one row of logits serves all reads on it."""
        rows: dict[tuple[int, int], int] = {}
        reads = [(rows.setdefault((id(node), at), len(rows)), token) for one in asked for node, at, token in one.reads]
        if not reads:
            return []
        states = torch.stack([hidden[node][at] for node, at in rows])
        row_of, tokens = torch.tensor(reads, device=states.device).T
        # With its type: while another model loads, transformers changes the default one for the whole process.
        told = torch.empty(len(reads), dtype=torch.float32, device=states.device)
        for begin in range(0, len(states), _ROWS_AT_ONCE):
            logits = self._model.logits(states[begin : begin + _ROWS_AT_ONCE])
            totals = torch.logsumexp(logits, -1)
            here = ((row_of >= begin) & (row_of < begin + _ROWS_AT_ONCE)).nonzero().flatten()
            at = row_of[here] - begin
            told[here] = logits[at, tokens[here]] - totals[at]
        values: list[float] = told.tolist()
        return values

    def _answer(self, asked: _Asked, hidden: dict[int, torch.Tensor], told: Iterator[float]) -> Outcome | None:
        job = asked.job
        if isinstance(job, WritingJob):
            return self._begin(job, asked, hidden[id(asked.leaf)][-1:])
        if isinstance(job, LikelihoodJob):
            return Likelihood(tuple(next(told) for _ in job.continuation), asked.usage)
        return LabelScores(tuple(sum(next(told) for _ in label) for label in job.labels.sequences), asked.usage)

    def _begin(self, job: WritingJob, asked: _Asked, hidden: torch.Tensor) -> Outcome | None:
        draft = Draft(
            job.sampling,
            self._tokenizer,
            self._tokenizer.ends,
            [token for segment in job.prompt.segments for token in segment],
            Buffer.after(asked.leaf, job.sampling.max_tokens) if self._model.shares else Buffer([], [], 0),
            None if job.sampling.grammar is None else self._grammar_matcher(job.sampling.grammar),
            asked.usage,
        )
        if draft.go_on(self._model.quick_logits(hidden)[0]):
            return draft.generation()
        self._drafts[id(job)] = (job, draft)
        return None

    def _grammar_matcher(self, grammar: str) -> Matcher:
        if self._grammars is None:
            self._grammars = Grammars(
                self._tokenizer.wrapped, self._model.vocabulary, self._tokenizer.ends, self._tokenizer.forbidden
            )
        return self._grammars.matcher(grammar)


def _reads(leaf: Node, tokens: Sequence[int], tree: BatchTree, spread: bool) -> list[tuple[Node, int, int]]:
    """Where each token's log-probability stands. spread: a node for each token before the last, so that
    labels share their beginnings; else one node for all of them."""
    reads = [(leaf, len(leaf.ids) - 1, tokens[0])]
    if spread:
        node = leaf
        for token, following in pairwise(tokens):
            node = tree.child(node, (token,))
            reads.append((node, 0, following))
    elif len(tokens) > 1:
        node = tree.child(leaf, tuple(tokens[:-1]))
        reads += [(node, index, token) for index, token in enumerate(tokens[1:])]
    return reads


class TransformersEngine:
    """See `themis_judge.engines.base.Engine`. One model, one thread that computes."""

    def __init__(self, settings: TransformersSettings, observe: BatchObserver = unobserved) -> None:
        if settings.dtype not in _DTYPES:
            raise ValueError(f"engine.dtype: is {settings.dtype!r}; it must be one of {', '.join(_DTYPES)}")
        self.settings = settings
        self._observe = observe
        self._parts: tuple[HFTokenizer, Batcher[Job, Outcome], EngineInfo] | None = None

    @property
    def info(self) -> EngineInfo:
        return self._ready[2]

    @property
    def tokenizer(self) -> Tokenizer:
        return self._ready[0]

    @property
    def failure(self) -> str | None:
        return self._parts[1].failure if self._parts else None

    @property
    def _ready(self) -> tuple[HFTokenizer, Batcher[Job, Outcome], EngineInfo]:
        if self._parts is None:
            raise EngineUnavailable("the engine is not loaded")
        return self._parts

    async def load(self) -> None:
        """Loads the model; seconds to minutes. Raises EngineUnavailable, saying what is missing."""
        if self._parts is None:
            self._parts = await asyncio.to_thread(self._load)

    def _load(self) -> tuple[HFTokenizer, Batcher[Job, Outcome], EngineInfo]:
        settings = self.settings
        if settings.device == "cpu":
            keep_freed_memory()
            torch.set_num_threads(settings.threads or os.cpu_count() or 1)
        loaded: Loaded = locate(settings.model, settings.trust_remote_code)
        model = Model(loaded, _DTYPES[settings.dtype], settings.device)
        context = min(settings.context_tokens or model.context_tokens, model.context_tokens)
        info = EngineInfo("transformers", loaded.name, context, loaded.weights_digest, settings.dtype)
        tokenizer = HFTokenizer(model.tokenizer)
        batcher: Batcher[Job, Outcome] = Batcher(
            TreeBackend(model, tokenizer, settings.cache_tokens),
            max_batch_tokens=settings.max_batch_tokens,
            max_batch_s=settings.max_batch_s,
            stuck_after_s=settings.stuck_after_s,
            finish=_timed,
            observe=self._observe,
        )
        return tokenizer, batcher, info

    async def unload(self) -> None:
        parts, self._parts = self._parts, None
        if parts is not None:
            await asyncio.to_thread(parts[1].close)

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        return await self._submit(LabelJob(prompt, labels), max(map(len, labels.sequences)), deadline, LabelScores)

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation:
        return await self._submit(WritingJob(prompt, sampling), sampling.max_tokens, deadline, Generation)

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], deadline: Deadline = NO_DEADLINE
    ) -> Likelihood:
        return await self._submit(LikelihoodJob(prompt, tuple(continuation)), len(continuation), deadline, Likelihood)

    async def _submit(self, job: Job, answer_tokens: int, deadline: Deadline, kind: type[O]) -> O:
        _, batcher, info = self._ready
        needed = len(job.prompt) + answer_tokens
        if needed > info.context_tokens:
            raise PromptTooLong(f"needs {needed} tokens with its answer; the context holds {info.context_tokens}")
        return cast(O, await batcher.submit(job, deadline))


def _timed(outcome: Outcome, queued_s: float, computed_s: float) -> Outcome:
    return replace(outcome, usage=replace(outcome.usage, queued_s=queued_s, computed_s=computed_s))
