"""The transformers engine against plain forward passes of the same weights, one prompt at a time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from transformers import AutoModelForCausalLM

from themis_judge.engines.base import (
    EngineUnavailable,
    Generation,
    Labels,
    LabelScores,
    Likelihood,
    Prompt,
    PromptTooLong,
    Sampling,
)
from themis_judge.engines.tokenizer import HFTokenizer
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.engines.transformers.engine import Job, LabelJob, LikelihoodJob, TreeBackend, WritingJob
from themis_judge.engines.transformers.model import Model
from themis_judge.engines.weights import locate
from themis_judge.tokens import Encoder
from themis_judge.verdict import critique_grammar, normalised, parse_critique

TinyModel: TypeAlias = Callable[..., Path]

SHARING = (
    "llama", "llama_untied", "qwen2", "qwen2_untied", "gpt2", "mixtral", "cohere", "cohere_untied", "granite",
    "granite_untied",
)  # fmt: skip
ALONE = ("gemma2", "mistral", "llama_longrope")
# Around the tiles of 128 queries, and from one token to many.
LENGTHS = (1, 2, 9, 40, 100, 126, 127, 128, 129, 130, 200, 255, 256, 257, 384, 520, 700)
RATINGS = tuple(map(str, range(1, 6)))
LONG_RATINGS = tuple(map(str, range(1, 13)))  # lone digits: "1" begins "10", so that labels are a trie


# ---------------------------------------------------------------------------------------------------- material


@dataclass
class Bench:
    """One tiny model as the engine runs it, and the same weights as transformers runs them."""

    model: Model
    tokenizer: HFTokenizer
    folder: Path

    @cached_property
    def plain(self) -> Any:
        """In float32, with the attention that the architecture is defined by."""
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32, attn_implementation="eager")

    def backend(self, cache_tokens: int = 32_768) -> TreeBackend:
        return TreeBackend(self.model, self.tokenizer, cache_tokens)

    def labels(self, texts: tuple[str, ...] = RATINGS) -> Labels:
        return Encoder(self.tokenizer).labels(texts)

    @torch.inference_mode()
    def logprobs(self, ids: Sequence[int]) -> torch.Tensor:
        """[T, V] of a plain pass over the whole text."""
        return torch.log_softmax(self.plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0], -1)

    def expected(self, job: LabelJob) -> list[float]:
        """What the labels' log-probabilities must be."""
        ids = flat(job.prompt)
        known: dict[tuple[int, ...], torch.Tensor] = {}
        values = []
        for label in job.labels.sequences:
            if label[:-1] not in known:
                known[label[:-1]] = self.logprobs([*ids, *label[:-1]])[len(ids) - 1 :]
            values.append(sum(float(known[label[:-1]][at, token]) for at, token in enumerate(label)))
        return values

    def written(self, ids: Sequence[int], max_tokens: int) -> str:
        """What transformers itself writes, greedily."""
        out = self.plain.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=sorted(self.tokenizer.ends),
            pad_token_id=0,
        )[0, len(ids) :].tolist()
        return self.tokenizer.decode([token for token in out if token not in self.tokenizer.ends])


@pytest.fixture(scope="module")
def bench(tiny_model: TinyModel) -> Callable[..., Bench]:
    made: dict[tuple[str, torch.dtype], Bench] = {}

    def make(name: str, dtype: torch.dtype = torch.float32) -> Bench:
        if (name, dtype) not in made:
            folder = tiny_model(name)
            model = Model(locate(str(folder)), dtype, "cpu")
            made[name, dtype] = Bench(model, HFTokenizer(model.tokenizer), folder)
        return made[name, dtype]

    return make


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on several threads, and much slower beside other programs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[TransformersEngine]:
    engine = TransformersEngine(TransformersSettings(str(folder), dtype="float32", threads=1, **settings))
    await engine.load()
    try:
        yield engine
    finally:
        await engine.unload()


class Ids:
    """Random token ids, none of a control token."""

    def __init__(self, seed: int = 0) -> None:
        self._random = torch.Generator().manual_seed(seed)

    def __call__(self, length: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 700, (length,), generator=self._random).tolist())


def flat(prompt: Prompt) -> list[int]:
    return [token for segment in prompt.segments for token in segment]


def mixed(bench: Bench) -> list[LabelJob]:
    """17 jobs: two heads, four conversations, some prompts with neither, single and composed labels."""
    ids = Ids()
    heads = [ids(90), ids(200)]
    talks = [[ids(33), ids(129)] for _ in heads]
    jobs = []
    for index, length in enumerate(LENGTHS):
        own, head = ids(length), index % 2
        shared = () if index % 5 == 4 else (heads[head], talks[head][index // 2 % 2])
        labels = bench.labels(LONG_RATINGS if index % 3 == 0 else RATINGS)
        jobs.append(LabelJob(Prompt((*shared, own)), labels))
    return jobs


def scores(backend: TreeBackend, jobs: Sequence[Job]) -> list[LabelScores]:
    found = backend.start(jobs)
    assert all(isinstance(one, LabelScores) for one in found)
    return [one for one in found if isinstance(one, LabelScores)]


def rating(found: LabelScores) -> float:
    assert found.logprobs is not None
    probabilities, _ = normalised(found.logprobs)
    assert probabilities is not None
    return sum(value * p for value, p in enumerate(probabilities, 1))


def assert_equal(found: LabelScores, expected: Sequence[float], what: object) -> None:
    """Within 1e-4, as probabilities under the vocabulary and among the labels."""
    assert found.logprobs is not None
    assert list(map(math.exp, found.logprobs)) == pytest.approx(list(map(math.exp, expected)), abs=1e-4), what
    assert normalised(found.logprobs)[0] == pytest.approx(normalised(expected)[0], abs=1e-4), what


@contextmanager
def counted(model: Model) -> Iterator[list[int]]:
    """The numbers of tokens that pass through the model, by forward pass."""
    passes: list[int] = []
    embedding = model.network.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda _module, _args, out: passes.append(out.shape[-2]))
    try:
        yield passes
    finally:
        hook.remove()


# ---------------------------------------------------------------------------------------------------- agreement


@pytest.mark.parametrize("name", SHARING)
def test_prompts_share_where_the_attention_can_be_replaced(bench: Callable[..., Bench], name: str) -> None:
    assert bench(name).model.shares


@pytest.mark.parametrize("name", ALONE)
def test_prompts_are_computed_alone_where_it_cannot(bench: Callable[..., Bench], name: str) -> None:
    assert not bench(name).model.shares


async def test_a_model_whose_logits_would_be_wrong_is_refused(tiny_model: TinyModel) -> None:
    """Hidden states times the head are not its logits: no number is better than a wrong one."""
    with pytest.raises(EngineUnavailable, match="falcon_h1"):
        async with running(tiny_model("falcon_h1")):
            pass


@pytest.mark.parametrize("name", SHARING + ALONE)
def test_labels_are_as_probable_as_in_a_plain_pass(bench: Callable[..., Bench], name: str) -> None:
    one = bench(name)
    jobs = mixed(one)
    expected = [one.expected(job) for job in jobs]
    together = one.backend()
    small = one.backend(cache_tokens=150)  # holds one head or one conversation at most
    ways = {
        "in a batch": scores(together, jobs),
        "after its head was held": [scores(together, [job])[0] for job in jobs],
        "alone": [scores(one.backend(), [job])[0] for job in jobs],
        "with held parts evicted": [found for at in range(0, 17, 4) for found in scores(small, jobs[at : at + 4])],
    }
    for way, found in ways.items():
        for length, wanted, told in zip(LENGTHS, expected, found, strict=True):
            assert_equal(told, wanted, (way, length))


@pytest.mark.parametrize("name", SHARING)
def test_a_bfloat16_rating_hardly_depends_on_its_batch(bench: Callable[..., Bench], name: str) -> None:
    one = bench(name, torch.bfloat16)
    assert one.model.shares
    jobs = mixed(one)
    alone = [rating(scores(one.backend(), [job])[0]) for job in jobs]
    together = one.backend()
    small = one.backend(cache_tokens=150)
    for found in (
        scores(together, jobs),
        scores(together, jobs[::-1])[::-1],
        [scores(together, [job])[0] for job in jobs],
        [told for at in range(0, 17, 4) for told in scores(small, jobs[at : at + 4])],
    ):
        assert list(map(rating, found)) == pytest.approx(alone, abs=0.02)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
async def test_the_engine_gives_every_caller_its_own_numbers(
    bench: Callable[..., Bench], tiny_model: TinyModel, name: str
) -> None:
    one = bench(name)
    jobs = mixed(one)
    async with running(tiny_model(name), max_batch_tokens=1000) as engine:
        found = await asyncio.gather(*(engine.label_logprobs(job.prompt, job.labels) for job in jobs))
    for job, told in zip(jobs, found, strict=True):
        assert_equal(told, one.expected(job), len(job.prompt))


async def test_what_does_not_fit_is_refused_and_what_just_fits_is_not(
    bench: Callable[..., Bench], tiny_model: TinyModel
) -> None:
    labels = bench("llama").labels()
    async with running(tiny_model("llama"), context_tokens=64) as engine:
        assert engine.info.context_tokens == 64
        await engine.label_logprobs(Prompt((Ids()(63),)), labels)
        with pytest.raises(PromptTooLong):
            await engine.label_logprobs(Prompt((Ids()(64),)), labels)
        with pytest.raises(PromptTooLong):
            await engine.generate(Prompt((Ids()(60),)), Sampling(max_tokens=5))
        with pytest.raises(PromptTooLong):
            await engine.loglikelihood(Prompt((Ids()(60),)), Ids()(5))


# ---------------------------------------------------------------------------------------------------- computed once


def test_items_under_one_head_compute_it_once(bench: Callable[..., Bench]) -> None:
    one, ids = bench("llama"), Ids()
    head, own = ids(150), [ids(20 + index) for index in range(8)]
    jobs = [LabelJob(Prompt((head, mine)), one.labels()) for mine in own]
    with counted(one.model) as passes:
        found = scores(one.backend(), jobs)
    assert passes == [150 + sum(map(len, own))]
    assert sum(told.usage.prompt_tokens - told.usage.cached_tokens for told in found) == sum(passes)


def test_groups_compute_each_distinct_token_once(bench: Callable[..., Bench]) -> None:
    one, ids = bench("llama"), Ids()
    head, talks = ids(90), [ids(40), ids(128), ids(129)]
    jobs = [LabelJob(Prompt((head, talk, ids(25))), one.labels()) for talk in talks for _ in range(5)]
    distinct = 90 + 40 + 128 + 129 + 3 * 5 * 25
    backend = one.backend()
    seen: set[object] = set()
    assert sum(backend.distinct_tokens(job, seen) for job in jobs) == distinct
    with counted(one.model) as passes:
        found = scores(backend, jobs)
    assert passes == [distinct]
    assert sum(told.usage.cached_tokens for told in found) == sum(len(job.prompt) for job in jobs) - distinct


def test_equal_prompts_of_one_batch_are_one_computation(bench: Callable[..., Bench]) -> None:
    one, ids = bench("llama"), Ids()
    prompt = Prompt((ids(30), ids(10)))
    with counted(one.model) as passes:
        first, second = scores(one.backend(), [LabelJob(prompt, one.labels()), LabelJob(prompt, one.labels())])
    assert passes == [40]
    assert first.logprobs == second.logprobs


def test_a_group_that_comes_one_by_one_computes_its_conversation_once(bench: Callable[..., Bench]) -> None:
    one, ids = bench("llama"), Ids()
    head, talks, backend = ids(90), [ids(40), ids(128)], one.backend()
    with counted(one.model) as passes:
        for talk in talks:
            for _ in range(4):
                scores(backend, [LabelJob(Prompt((head, talk, ids(25))), one.labels())])
    assert passes == [90 + 40 + 25, 25, 25, 25, 128 + 25, 25, 25, 25]


def test_a_head_outlives_the_conversations_under_it(bench: Callable[..., Bench]) -> None:
    """What is asked for often stays held, though the cache overflows with what is asked for once."""
    one, ids = bench("llama"), Ids()
    head, backend = ids(90), one.backend(cache_tokens=200)
    scores(backend, [LabelJob(Prompt((head, ids(40), ids(5))), one.labels())])
    with counted(one.model) as passes:
        for _ in range(6):
            scores(backend, [LabelJob(Prompt((head, ids(40), ids(5))), one.labels())])
    assert passes == [45] * 6


def test_composed_labels_share_their_beginnings(bench: Callable[..., Bench]) -> None:
    one, ids = bench("llama"), Ids()
    job = LabelJob(Prompt((ids(30),)), one.labels(LONG_RATINGS))
    assert {len(label) for label in job.labels.sequences} == {2, 3}
    inner = {label[:end] for label in job.labels.sequences for end in range(1, len(label))}
    with counted(one.model) as passes:
        scores(one.backend(), [job])
    assert passes == [30 + len(inner)]


async def test_the_engine_computes_distinct_tokens_only_however_batches_form(
    bench: Callable[..., Bench], tiny_model: TinyModel
) -> None:
    labels, ids = bench("llama").labels(), Ids()
    head, talks = ids(90), [ids(40), ids(128), ids(129)]
    asked = [Prompt((head, talk, ids(25))) for talk in talks for _ in range(5)]
    async with running(tiny_model("llama"), max_batch_tokens=300) as engine:
        found = await asyncio.gather(*(engine.label_logprobs(prompt, labels) for prompt in asked))
    computed = sum(told.usage.prompt_tokens - told.usage.cached_tokens for told in found)
    assert computed == 90 + 40 + 128 + 129 + 3 * 5 * 25
    assert all(told.usage.computed_s > 0 and told.usage.queued_s >= 0 for told in found)


# ---------------------------------------------------------------------------------------------------- likelihood


@pytest.mark.parametrize("name", ["llama", "gpt2", "cohere_untied", "gemma2"])
def test_a_likelihood_is_read_token_by_token(bench: Callable[..., Bench], name: str) -> None:
    one, ids = bench(name), Ids()
    head = ids(90)
    prompts = [Prompt((head, ids(length))) for length in (1, 37, 39)]
    jobs = [LikelihoodJob(prompt, ids(length)) for prompt, length in zip(prompts, (1, 2, 200), strict=True)]
    found = one.backend().start([*jobs, LabelJob(prompts[0], one.labels())])
    for job, told in zip(jobs, found[:-1], strict=True):
        before = flat(job.prompt)
        rows = one.logprobs([*before, *job.continuation])[len(before) - 1 : -1]
        wanted = [float(row[token]) for row, token in zip(rows, job.continuation, strict=True)]
        assert isinstance(told, Likelihood)
        assert told.logprobs == pytest.approx(wanted, abs=1e-3)


# ---------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("name", SHARING + ALONE)
async def test_greedy_text_is_what_transformers_writes(
    bench: Callable[..., Bench], tiny_model: TinyModel, name: str
) -> None:
    one, ids = bench(name), Ids(1)
    head = ids(60)
    asked = [Prompt((head, ids(length))) for length in (1, 67, 68, 129, 240)]
    async with running(tiny_model(name)) as engine:
        made = await asyncio.gather(*(engine.generate(prompt, Sampling(max_tokens=24)) for prompt in asked))
    assert [told.text for told in made] == [one.written(flat(prompt), 24) for prompt in asked]


@pytest.mark.parametrize("name", ["llama", "mixtral", "gemma2"])
async def test_text_written_beside_other_work_is_the_same(tiny_model: TinyModel, name: str) -> None:
    ids = Ids(2)
    asked = [Prompt((ids(50), ids(20))) for _ in range(4)]
    samplings = [Sampling(30, temperature=0.0), *(Sampling(30, temperature=1.0, seed=seed) for seed in (1, 2, 3))]
    async with running(tiny_model(name)) as engine:
        labels = Encoder(engine.tokenizer).labels(RATINGS)
        alone = [(await engine.generate(*pair)).text for pair in zip(asked, samplings, strict=True)]

        async def others() -> None:
            for _ in range(10):
                await asyncio.gather(*(engine.label_logprobs(Prompt((ids(30),)), labels) for _ in range(3)))

        *beside, _ = await asyncio.gather(
            *(engine.generate(*pair) for pair in zip(asked, samplings, strict=True)), others()
        )
    assert [made.text for made in beside if made is not None] == alone


async def test_a_seed_repeats_a_sample_and_another_seed_gives_another(tiny_model: TinyModel) -> None:
    prompt = Prompt((Ids()(40),))
    async with running(tiny_model("llama")) as engine:
        texts = [
            (await engine.generate(prompt, Sampling(16, temperature=1.0, seed=seed))).text
            for seed in (0, 1, 2, 3, 0, 1, 2, 3)
        ]
    assert texts[:4] == texts[4:]
    assert len(set(texts)) == 4


def write(one: Bench, sampling: Sampling, prompt: Prompt | None = None) -> Generation:
    """A text by a fresh backend, step by step."""
    backend = one.backend()
    job = WritingJob(prompt or Prompt((Ids()(40),)), sampling)
    (made,) = backend.start([job])
    while made is None:
        for done, result in backend.step():
            assert done is job
            assert isinstance(result, Generation)
            made = result
    assert isinstance(made, Generation)
    assert backend.step() == []
    return made


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_a_text_is_cut_at_its_limit_and_says_so(bench: Callable[..., Bench], name: str) -> None:
    made = write(bench(name), Sampling(max_tokens=7))
    assert made.cut
    assert made.usage.completion_tokens == 7
    assert write(bench(name), Sampling(max_tokens=1)).usage.completion_tokens == 1


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_a_text_ends_before_its_stop(bench: Callable[..., Bench], name: str) -> None:
    one, warm = bench(name), Sampling(40, temperature=1.0, seed=1)
    whole = write(one, warm).text
    stop = next(whole[at : at + 3] for at in range(8, len(whole)) if whole[at : at + 3].isascii())
    made = write(one, replace(warm, stop=("nowhere", stop)))
    assert made.text == whole.partition(stop)[0]
    assert not made.cut


@pytest.mark.parametrize("at", [0, 5])
def test_a_token_that_ends_texts_ends_this_one(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    one = bench("llama")
    ids = flat(Prompt((Ids()(40),)))
    for _ in range(at):
        ids.append(int(one.logprobs(ids)[-1].argmax()))
    ending = int(one.logprobs(ids)[-1].argmax())
    assert ending not in ids[40:], "the token must be new for this test to tell anything"
    monkeypatch.setattr(one.tokenizer, "ends", frozenset({ending}))
    made = write(one, Sampling(max_tokens=20))
    assert made.text == one.tokenizer.decode(ids[40:])
    assert not made.cut
    assert made.usage.completion_tokens == at


def room(points: int, characters: int) -> int:
    """Tokens that any critique fits into: a model without sense writes characters of four bytes, byte by byte."""
    return 64 + 2 * points * (4 * characters + 32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_critique_obeys_its_grammar_whatever_the_model(tiny_model: TinyModel, seed: int, temperature: float) -> None:
    model = Model(locate(str(tiny_model("llama_untied", seed))), torch.float32, "cpu")
    one = Bench(model, HFTokenizer(model.tokenizer), tiny_model("llama_untied", seed))
    for rating_first in (True, False):
        grammar = critique_grammar(1, 10, 2, 24, rating_first)
        made = write(one, Sampling(room(2, 24), temperature, seed, grammar=grammar))
        assert not made.cut
        critique = parse_critique(made.text, range(1, 11))
        assert critique is not None, ascii(made.text)
        assert all(1 <= len(points) <= 2 for points in (critique.strengths, critique.shortcomings))


@pytest.mark.parametrize("control", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
def test_a_grammar_holds_though_the_model_would_rather_end(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, control: str
) -> None:
    one = bench("llama")
    (wanted,) = one.tokenizer.control(control)
    honest = one.model.quick_logits

    def eager_to_end(hidden: torch.Tensor) -> torch.Tensor:
        logits = honest(hidden).clone()
        logits[:, wanted] += 1000.0
        return logits

    monkeypatch.setattr(one.model, "quick_logits", eager_to_end)
    made = write(one, Sampling(room(2, 24), grammar=critique_grammar(1, 5, 2, 24, True)))
    assert parse_critique(made.text, range(1, 6)) is not None, ascii(made.text)
    assert control not in made.text


def test_separators_of_lines_within_a_point_do_not_spoil_a_critique() -> None:
    """The grammar lets every sign but brackets, tabs and line ends into a point."""
    for sign in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
        text = f"]]\nStrengths:\n- one{sign}two [[4]]\nShortcomings:\n- three [[2]]\n"
        assert parse_critique(text, range(1, 6)) is not None, ascii(sign)


def test_dropped_texts_are_written_no_further(bench: Callable[..., Bench]) -> None:
    one = bench("llama")
    backend = one.backend()
    jobs = [WritingJob(Prompt((Ids(seed)(20),)), Sampling(max_tokens=50)) for seed in range(3)]
    assert backend.start(jobs) == [None] * 3
    backend.step()
    backend.drop(jobs)
    assert backend.step() == []
