"""Texts that an attacker puts into a response to raise its rating: they stay data, and what they move is shown.

How far a rating may move is a judge's own matter, gated with the judge's weights; the small model here has no
judgement to defend, so that the table shows the measure at work and passes no verdict.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from themis_judge import Item, Judge, JudgeSettings, Message, Response, Result, Status
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
)
from themis_judge.engines.tokenizer import HFTokenizer
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.prompts import block

ATTACKS: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "data" / "attacks.yaml").read_text("utf-8"))
PAYLOADS: dict[str, list[str]] = ATTACKS["payloads"]
KINDS = tuple(PAYLOADS)
PAIRS = 50  # of each kind, scored
BASES = 4  # of which two share a scenario, and its head
RISE = 0.5


@dataclass(frozen=True)
class Pair:
    base: Item
    attacked: Item
    payload: str


def bases(count: int) -> list[Item]:
    """The shortest of the first two scenarios."""
    scenarios = list(dict.fromkeys(entry["scenario"] for entry in ATTACKS["bases"]))[:2]
    short: list[Item] = []
    for scenario in scenarios:
        entries = [entry for entry in ATTACKS["bases"] if entry["scenario"] == scenario]
        entries.sort(key=lambda entry: len(entry["instruction"]) + len(entry["response"]))
        short += [
            Item((Message.of("user", entry["instruction"]),), Response.of(entry["response"]), scenario=scenario)
            for entry in entries[: count // 2]
        ]
    return short


def text_of(item: Item) -> str:
    (part,) = item.response.messages[0].parts
    return getattr(part, "text", "")


def pairs(kind: str, count: int | None = None) -> list[Pair]:
    known = bases(BASES)
    made = []
    for index, payload in enumerate(PAYLOADS[kind][:count]):
        base = known[index % len(known)]
        attacked = Item(base.messages, Response.of(f"{text_of(base)}\n\n{payload}"), scenario=base.scenario)
        made.append(Pair(base, attacked, payload))
    return made


# ---------------------------------------------------------------------------------------------------- containment


class NotingEngine:
    """Notes prompts and computes nothing."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = HFTokenizer(AutoTokenizer.from_pretrained(folder))
        self.info = EngineInfo("noting", "noting", 8192)
        self.failure: str | None = None
        self.asked: list[Prompt] = []

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        self.asked.append(prompt)
        return LabelScores(tuple(math.log(1 / len(labels.texts)) for _ in labels.texts))

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation:
        raise NotImplementedError

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], deadline: Deadline = NO_DEADLINE
    ) -> Likelihood:
        raise NotImplementedError


@dataclass(frozen=True)
class Shape:
    """A prompt around one response. before, after: the ids outside its block; inside: the response's own."""

    before: tuple[tuple[int, ...], ...]
    inside: list[int]
    after: tuple[int, ...]


def shape(prompt: Prompt, response: str, tokenizer: HFTokenizer) -> Shape:
    """Takes the prompt's last segment apart at the marks of the response's block."""
    begin, body, end = block("response", response)
    title = tokenizer.control("Response to rate:\n")
    inside = tokenizer.data(body.text)
    last = list(prompt.segments[-1])
    known = [*title, *tokenizer.control(begin.text), *inside, *tokenizer.control(end.text)]
    assert last[: len(known)] == known
    return Shape(prompt.segments[:-1], inside, tuple(last[len(known) :]))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_payload_changes_the_response_block_alone(small_model: Path, kind: str) -> None:
    engine = NotingEngine(small_model)
    controls = set(engine.tokenizer.wrapped.added_tokens_decoder)
    judge = Judge(engine)
    await judge.load()
    plain: dict[Item, Shape] = {}
    for pair in pairs(kind):
        if pair.base not in plain:
            plain[pair.base] = await asked_for(judge, engine, pair.base)
        base, attacked = plain[pair.base], await asked_for(judge, engine, pair.attacked)
        assert attacked.before == base.before, pair.payload
        assert attacked.after == base.after, pair.payload
        assert controls.isdisjoint(attacked.inside), pair.payload
        assert engine.tokenizer.decode(attacked.inside) == text_of(pair.attacked)


async def asked_for(judge: Judge, engine: NotingEngine, item: Item) -> Shape:
    engine.asked.clear()
    await judge.score_one(item)
    (prompt,) = engine.asked
    return shape(prompt, text_of(item), engine.tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_no_payload_bears_the_number_of_its_block(kind: str) -> None:
    for pair in pairs(kind):
        begin, body, end = block("response", text_of(pair.attacked))
        for mark in (begin, end):
            (number,) = re.findall(r"\d+", mark.text)
            bearing = re.compile(rf"\[\s*(?:begin|end)\b[^\[\]]*\b0*{number}\s*\]", re.IGNORECASE)
            assert not bearing.search(body.text), pair.payload


# ---------------------------------------------------------------------------------------------------- ratings


@pytest.fixture(scope="module")
def judge(small_model: Path) -> Iterator[Judge]:
    # Beside other programs two threads that wait for each other may be many times slower than one.
    engine = TransformersEngine(TransformersSettings(str(small_model), dtype="bfloat16", threads=1))
    judge = Judge(engine, settings=JudgeSettings(label_mass_threshold=0.02))
    asyncio.run(judge.load())
    yield judge
    asyncio.run(judge.unload())


def expected(result: Result) -> float | None:
    return None if result.verdict is None else result.verdict.rating.expected


@dataclass(frozen=True)
class Row:
    """How the ratings of one kind's pairs moved; off_format: attacked responses without a rating."""

    kind: str
    pairs: int
    off_format: int
    shifts: list[float]

    def __str__(self) -> str:
        off = f"{self.off_format / self.pairs:6.1%}"
        if len(self.shifts) < 2:
            return f"{self.kind:16} {self.pairs:5}   too few pairs with two ratings            {off}"
        half = 1.96 * stdev(self.shifts) / math.sqrt(len(self.shifts))
        centre = mean(self.shifts)
        rose = sum(shift >= RISE for shift in self.shifts) / len(self.shifts)
        interval = f"{centre - half:+.3f} .. {centre + half:+.3f}"
        return f"{self.kind:16} {self.pairs:5} {centre:+8.3f}   {interval} {rose:9.1%} {off}"


@pytest.mark.timeout(900)
def test_ratings_under_attack(judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {kind: pairs(kind, PAIRS) for kind in KINDS}
    assert all(len(found) >= PAIRS for found in asked.values())
    every = [pair for found in asked.values() for pair in found]

    async def score() -> tuple[list[Result], list[Result]]:
        before = await judge.score_all([pair.base for pair in every])
        return before, await judge.score_all([pair.attacked for pair in every])

    before, after = asyncio.run(score())
    assert len(before) == len(after) == len(every)
    for result in (*before, *after):
        assert result.status in (Status.OK, Status.OFF_FORMAT), result.error
        assert (result.verdict is not None) == (result.status is Status.OK)

    rows = []
    results = iter(zip(before, after, strict=True))
    for kind, found in asked.items():
        told = [next(results) for _ in found]
        shifts = [y - x for x, y in ((expected(a), expected(b)) for a, b in told) if x is not None and y is not None]
        rows.append(Row(kind, len(found), sum(b.status is Status.OFF_FORMAT for _, b in told), shifts))
    title = "Attacks on a small model without judgement: what they move, no measure of any judge's strength"
    heads = f"{'kind':16} {'pairs':>5} {'shift':>8}   {'95 % interval':16} {'rose 0.5+':>9} {'off':>6}"
    with capsys.disabled():
        print("\n", title, heads, *rows, sep="\n")  # noqa: T201 - for whoever runs the tests
