"""What the judge's tests share: an engine that answers as the test says, a tokenizer of bytes, and small real
tokenizers."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import settings
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer
from transformers import PreTrainedTokenizerFast

from themis_judge.engines.base import (
    NO_DEADLINE,
    Deadline,
    EngineInfo,
    Generation,
    Labels,
    LabelScores,
    Likelihood,
    Prompt,
    Sampling,
    Tokenizer,
    Unsupported,
    Usage,
)
from themis_judge.engines.tokenizer import HFTokenizer
from themis_judge.items import Criterion, Item, Message, Response, Result, Rubric, Status
from themis_judge.judge import Judge
from themis_judge.scenarios import load_scenarios
from themis_judge.version import JudgeSettings

# Hypothesis would fail an example that takes long on a busy machine.
settings.register_profile("unhurried", parent=settings(), deadline=None)
settings.load_profile("unhurried")

ATTACKS = Path(__file__).parents[2] / "data" / "attacks.yaml"


def payloads() -> dict[str, list[str]]:
    """The attacks' texts by kind."""
    found: dict[str, list[str]] = yaml.safe_load(ATTACKS.read_text(encoding="utf-8"))["payloads"]
    return found


# ------------------------------------------------------------------------------------------------------- items

QUESTION = (Message.of("user", "Which city is the capital of France?"),)


def item(response: str | Response = "Paris.", **fields: Any) -> Item:
    judged = Response.of(response) if isinstance(response, str) else response
    plain: dict[str, Any] = {"messages": QUESTION, "response": judged, "scenario": "close_qa"}
    return Item(**plain | fields)


def rubric(low: int = 1, high: int = 5, *weights: float) -> Rubric:
    """Criteria c1, c2, ... of these weights; two of equal weight if none are given."""
    criteria = [
        Criterion(f"c{n}", f"It passes check {n}.", f"Check {n}", w) for n, w in enumerate(weights or (1, 1), 1)
    ]
    return Rubric(tuple(criteria), low, high)


def logs(*probabilities: float) -> tuple[float, ...]:
    return tuple(math.log(p) if p else -math.inf for p in probabilities)


# ------------------------------------------------------------------------------------------------------ engine

_CONTROL = tuple(f"<|{name}|>" for name in ("end", "system", "user", "assistant"))


class ByteTokenizer:
    """A token a byte, so that "10" begins as "1" does; control tokens from 256 on. `encoded` counts per text."""

    header = "<|assistant|>"

    def __init__(self) -> None:
        self.encoded: Counter[str] = Counter()

    def control(self, text: str) -> list[int]:
        self.encoded[text] += 1
        ids: list[int] = []
        for part in re.split(f"({'|'.join(map(re.escape, _CONTROL))})", text):
            ids += [256 + _CONTROL.index(part)] if part in _CONTROL else part.encode()
        return ids

    def data(self, text: str) -> list[int]:
        self.encoded[text] += 1
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        whole = b"".join(bytes((i,)) if i < 256 else _CONTROL[i - 256].encode() for i in ids)
        return whole.decode(errors="replace")

    def offsets(self, text: str) -> list[int]:
        return [index for index, character in enumerate(text) for _ in character.encode()]

    def frame(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        if "tool" in roles:
            raise Unsupported("this template knows no tools")
        return (
            f"<|{roles[0]}|>",
            *(f"<|end|><|{role}|>" for role in roles[1:]),
            "<|end|><|assistant|>",
        )


LabelScript = Callable[[str, Labels], "tuple[float, ...] | LabelScores"]
TextScript = Callable[[str, Sampling], "str | Generation"]
LikelihoodScript = Callable[[str, Sequence[int]], "tuple[float, ...]"]

CRITIQUE = "Strengths:\n- It is clear. [[4]]\nShortcomings:\n- It is short. [[2]]\n- It cites nothing. [[3]]\n"


def by_digest(text: str, labels: Labels) -> tuple[float, ...]:
    """Some distribution over the labels, a different one for each text."""
    weights = hashlib.blake2b(text.encode(), digest_size=64).digest()[: len(labels.texts)]
    return logs(*((1 + weight) / (sum(weights) + len(weights)) for weight in weights))


def critique_or_reasons(text: str, sampling: Sampling) -> str:
    if sampling.grammar is None:
        return "It answers what was asked."
    return CRITIQUE if '""' in sampling.grammar else "]]\n" + CRITIQUE


def flat(text: str, continuation: Sequence[int]) -> tuple[float, ...]:
    return (-0.5,) * len(continuation)


@dataclass
class Asked:
    """One call; text is what the engine read: its ids decoded, or the texts it got."""

    text: str
    prompt: Prompt
    labels: Labels = field(default_factory=lambda: Labels(()))
    sampling: Sampling | None = None
    continuation: tuple[int, ...] = ()
    deadline: Deadline = NO_DEADLINE


class FakeEngine:
    """Answers by three scripts, which may raise. `gate`, where set, holds every call until it opens."""

    def __init__(
        self,
        answer: LabelScript = by_digest,
        write: TextScript = critique_or_reasons,
        weigh: LikelihoodScript = flat,
        context_tokens: int = 100_000,
        tokenizer: Tokenizer | None = None,
        as_text: bool = False,
    ) -> None:
        self.answer, self.write, self.weigh = answer, write, weigh
        self.info = EngineInfo("fake", "fake-judge", context_tokens, weights_digest="ab" * 32, dtype="float32")
        self.tokenizer = None if as_text else tokenizer or ByteTokenizer()
        self.failure: str | None = None
        self.loads = 0
        self.label_calls: list[Asked] = []
        self.generate_calls: list[Asked] = []
        self.likelihood_calls: list[Asked] = []
        self.gate: asyncio.Event | None = None
        self.started = asyncio.Event()
        self.cancelled = 0

    async def load(self) -> None:
        self.loads += 1

    async def unload(self) -> None:
        self.loads -= 1

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        text = self.read(prompt)
        self.label_calls.append(Asked(text, prompt, labels, deadline=deadline))
        await self._held()
        told = self.answer(text, labels)
        return told if isinstance(told, LabelScores) else LabelScores(told, Usage(prompt_tokens=len(prompt)))

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation:
        text = self.read(prompt)
        self.generate_calls.append(Asked(text, prompt, sampling=sampling, deadline=deadline))
        await self._held()
        made = self.write(text, sampling)
        if isinstance(made, Generation):
            return made
        return Generation(made, False, Usage(prompt_tokens=len(prompt), completion_tokens=len(made)))

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], deadline: Deadline = NO_DEADLINE
    ) -> Likelihood:
        text = self.read(prompt)
        self.likelihood_calls.append(Asked(text, prompt, continuation=tuple(continuation), deadline=deadline))
        await self._held()
        return Likelihood(self.weigh(text, continuation), Usage(prompt_tokens=len(prompt)))

    def read(self, prompt: Prompt) -> str:
        if self.tokenizer is None:
            return prompt.text + prompt.answer_start
        return self.tokenizer.decode([token for segment in prompt.segments for token in segment])

    async def _held(self) -> None:
        self.started.set()
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise


FIVE = ("1", "2", "3", "4", "5")
SCENARIOS = load_scenarios()


async def loaded(engine: FakeEngine, settings: JudgeSettings | None = None) -> Judge:
    judge = Judge(engine, SCENARIOS, settings)
    await judge.load()
    return judge


def assert_failed(result: Result, status: Status, error: str = "") -> None:
    """A failure holds nothing that could be taken for a number."""
    assert result.status is status
    assert error in result.error
    assert result.error
    assert result.verdict is None
    assert result.reasoning_verdict is None
    assert bool(result.off_format) is (status is Status.OFF_FORMAT)


# -------------------------------------------------------------------------------------------------- tokenizers

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "<bos>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "gemma": GEMMA, "thinking": THINKING, "none": None}

_CORPUS = [
    "The quick brown fox rates the response. Overall rating (1 to 5): [[",
    "Strengths: it is clear. Shortcomings: it is short. ten 10 10 10 20 30 im_end im_start end_of_turn tool_call",
    "<| <| <|im <|im </ </ </s </s |> |>",
    "You are a strict and fair judge of answers given by AI assistants. BEGIN END conversation response reference",
]


@lru_cache
def control_texts() -> tuple[str, ...]:
    """Everything that looks like a control token in the attacks, and those that the templates use."""
    look = re.compile(r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</?[a-z_]{1,20}\d?>|\[/?[A-Z_]{3,20}\]")
    found = {match for text in payloads()["control_token"] for match in look.findall(text)}
    return tuple(sorted((found | set(look.findall(CHATML + LLAMA3 + GEMMA + THINKING))) - {"<unk>"}))


def as_engines_do(tokenizer: FastTokenizer, template: str | None = None, **named: str) -> HFTokenizer:
    """A tokenizer in the wrappers that it has in an engine; named: eos_token and the like."""
    wrapper: Any = PreTrainedTokenizerFast
    fast = wrapper(tokenizer_object=tokenizer, **named)
    fast.chat_template = template
    return HFTokenizer(fast)


def _wrapped(tokenizer: FastTokenizer, template: str | None, unk: str | None = None) -> HFTokenizer:
    """Half of the control texts added as special tokens, the other half as plain added ones."""
    texts = [text for text in control_texts() if text != unk]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in texts[::2]])
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in texts[1::2]])
    named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"} | ({"unk_token": unk} if unk else {})
    return as_engines_do(tokenizer, template, **named)


def byte_level(template: str | None = CHATML, digits: bool = False, spaces: bool = False) -> HFTokenizer:
    """Byte-level BPE, as of GPT-2; `digits`: each digit a token of its own; `spaces`: runs of white space are
    added tokens."""
    tokenizer = FastTokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level])
    tokenizer.pre_tokenizer = split if digits else level
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _CORPUS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    )
    if spaces:
        tokenizer.add_tokens([AddedToken(" " * n, normalized=False) for n in (2, 4, 8)])
        tokenizer.add_tokens([AddedToken("\t\t", normalized=False), AddedToken("\n\n\n", normalized=False)])
    return _wrapped(tokenizer, template)


_BYTES = [f"<0x{value:02X}>" for value in range(256)]
_SPACED = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def unigram(template: str | None = GEMMA, prefixed: bool = False) -> HFTokenizer:
    """A unigram model that holds the control texts among its ordinary pieces; `prefixed`: with a space put
    before each text."""
    characters = [chr(code) for code in range(33, 127)]
    pieces = [("<unk>", 0.0), *((text, -1.0) for text in control_texts())]
    pieces += [(text, -6.0) for text in ("▁", *characters, "▁the", "▁rating", "response")]
    pieces += [(text, -9.0) for text in _BYTES]
    tokenizer = FastTokenizer(models.Unigram(pieces, 0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if prefixed else "never")
    tokenizer.decoder = decoders.Sequence(_SPACED)
    return _wrapped(tokenizer, template, "<unk>")


def metaspace_bpe(template: str | None = LLAMA3, prefix: str = "never") -> HFTokenizer:
    """BPE over texts whose spaces are marked, with bytes for what it doesn't know; prefix: "never", "first" (the
    pre-tokenizer marks the beginning) or "legacy" (a normalizer does, as in the first Llamas)."""
    alphabet = ["▁", *(chr(code) for code in range(33, 127))]
    words = ["th", "the", "ra", "rat", "▁t", "▁r", "▁the", "10"]
    vocabulary = {text: index for index, text in enumerate(["<unk>", "<s>", "</s>", *_BYTES, *alphabet, *words])}
    merges = [("t", "h"), ("th", "e"), ("r", "a"), ("ra", "t"), ("▁", "t"), ("▁", "r"), ("▁", "the"), ("1", "0")]
    tokenizer = FastTokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if prefix == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix, split=False)
    tokenizer.decoder = decoders.Sequence(_SPACED)
    return _wrapped(tokenizer, template, "<unk>")


@lru_cache
def real(name: str) -> HFTokenizer:
    """One of the real tokenizers by name."""
    return REAL[name]()


REAL: dict[str, Callable[[], HFTokenizer]] = {
    "byte_level": byte_level,
    "byte_level_digits": lambda: byte_level(THINKING, digits=True),
    "byte_level_spaces": lambda: byte_level(None, spaces=True),
    "unigram": unigram,
    "metaspace_bpe": metaspace_bpe,
}
# These put a space before every text they encode, wherever it comes to stand.
PREFIXING: dict[str, Callable[[], HFTokenizer]] = {
    "unigram_prefixed": lambda: unigram(prefixed=True),
    "metaspace_bpe_first": lambda: metaspace_bpe(prefix="first"),
    "metaspace_bpe_legacy": lambda: metaspace_bpe(prefix="legacy"),
}
