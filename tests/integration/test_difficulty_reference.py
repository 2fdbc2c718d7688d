"""The stage `difficulty` through client, server and engine, against a tiny model's own logits: single values worked out
by hand, and the ranks that a plain loop gives by both published definitions."""

from __future__ import annotations

import io
import math
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.integration.sidecar_fakes import make_server
from themis_client import AsyncClient
from themis_judge import prompts
from themis_judge.engines.base import Deadline
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.items import Message, Response, Rubric
from themis_judge.judge import Judge
from themis_pipeline.stages.convert import text_message
from themis_pipeline.stages.difficulty import Difficulty
from themis_pipeline.stages.seam import Context
from themis_proto.v1 import events_pb2 as ev
from themis_proto.v1 import judge_pb2 as pb
from themis_sidecar.config import LogConfig
from themis_sidecar.logs import make_logger

QUESTION, ANSWER = "What is the capital of France?", "It is Paris."
USER, ASSISTANT = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
HEADER = "<|im_start|>assistant\n"
WORDS = "paris river stone number answer question clear wrong because reader model seldom always brief".split()  # noqa: SIM905


@dataclass(frozen=True)
class Spans:
    """A critique with the places, in characters, that its format left free."""

    text: str
    free: tuple[range, ...]


@dataclass(frozen=True)
class Loop:
    """A plain implementation: a forward pass for each text, and no code of the project's."""

    tokenizer: Any
    model: Any

    def ids(self, *texts: str) -> list[int]:
        """Texts that are tokenised apart and put together."""
        return [token for text in texts for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    @torch.inference_mode()
    def losses(self, before: Sequence[int], answer: Sequence[int]) -> list[float]:
        """Of each of the answer's tokens, in nats: by sums over a row of logits, in double precision."""
        rows = self.model(input_ids=torch.tensor([[*before, *answer]])).logits[0].double().tolist()
        found = []
        for place, token in enumerate(answer):
            row = rows[len(before) + place - 1]
            highest = max(row)
            found.append(math.log(math.fsum(math.exp(value - highest) for value in row)) + highest - row[token])
        return found

    def means(self, before: Sequence[int], critique: Spans) -> tuple[float, float, int]:
        """Mean losses with the prompt and without it, over tokens that reach into what is free, and their number."""
        encoded = self.tokenizer(critique.text, add_special_tokens=False, return_offsets_mapping=True)
        kept = [
            place
            for place, (start, end) in enumerate(encoded["offset_mapping"])
            if any(start < span.stop and span.start < end for span in critique.free)
        ]
        given = self.losses(before, encoded["input_ids"])
        alone = self.losses(self.ids(HEADER), encoded["input_ids"])
        return (
            sum(given[place] for place in kept) / len(kept),
            sum(alone[place] for place in kept) / len(kept),
            len(kept),
        )


@pytest.fixture(scope="module")
def folder(tiny_model: Callable[..., Path]) -> Path:
    return tiny_model("llama", 3)


@pytest.fixture(scope="module")
def loop(folder: Path) -> Loop:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return Loop(AutoTokenizer.from_pretrained(folder), model)


@dataclass(frozen=True)
class Scorer:
    stage: Difficulty
    judge: Judge

    async def score(self, event: ev.Labelled) -> ev.RecordDifficulty:
        context = Context("labelled", 0, 0, 0, Deadline.after(60))
        [scored] = await self.stage.handle(event, context)
        assert scored.labelled == event
        return scored.difficulty


@pytest_asyncio.fixture
async def scorer(folder: Path) -> AsyncIterator[Scorer]:
    judge = Judge(TransformersEngine(TransformersSettings(str(folder), dtype="float32")))
    await judge.load()
    server = make_server(judge, make_logger(LogConfig(), io.StringIO()))
    address = await server.start()
    await server.serve()
    try:
        async with AsyncClient(address) as client:
            yield Scorer(Difficulty(client, (await client.describe()).current), judge)
    finally:
        await server.stop()
        await judge.engine.unload()


def pairwise(prompt: str, critique: str) -> ev.Labelled:
    return ev.Labelled(id="p", mode=ev.LABEL_MODE_PAIRWISE, prompt=prompt, critique=critique)


def single(critique: str, answer: str = ANSWER) -> ev.Labelled:
    instruction = ev.Instruction(id="i", scenario="close_qa", messages=[text_message("user", QUESTION)])
    response = pb.Response(messages=[text_message("assistant", answer)])
    return ev.Labelled(
        id="s",
        instruction=instruction,
        candidates=[ev.Candidate(response=response)],
        mode=ev.LABEL_MODE_SINGLE,
        critique=critique,
    )


def put_together(*parts: str | tuple[str]) -> Spans:
    """Parts in tuples are free."""
    text, free = "", []
    for part in parts:
        own = part if isinstance(part, str) else part[0]
        if not isinstance(part, str):
            free.append(range(len(text), len(text) + len(own)))
        text += own
    return Spans(text, tuple(free))


def evaluation(rating: str, first: str, second: str) -> Spans:
    return put_together(
        "Overall rating (1 to 5): [[", (rating,), "]]\nStrengths:\n- ", (first,), " [[", ("4",),
        "]]\nShortcomings:\n- ", (second,), " [[", ("2",), "]]\n",
    )  # fmt: skip


def evaluation_prompt(judge: Judge, loop: Loop, answer: str) -> list[int]:
    """The judge's own prompt for the single response, as ids."""
    found = judge.scenarios["close_qa"]
    task = prompts.Task(
        name=found.name, definition=found.definition, rubric=Rubric(found.criteria), custom=False,
        paper_order=False, reason_first=False, with_reference=False,
    )  # fmt: skip
    layout = prompts.single(task, (Message.of("user", QUESTION),), Response.of(answer), None)
    pieces = [piece.text for section in layout.sections for piece in section]
    return loop.ids(USER, *pieces, ASSISTANT)


# ---------------------------------------------------------------------------------------------------- by hand


async def test_a_preference_by_hand(scorer: Scorer, loop: Loop) -> None:
    """One token is free, the letter: its loss is read off two rows of logits."""
    critique = put_together("Better response: [[", ("A",), "]]")
    found = await scorer.score(pairwise("Which is better?", critique.text))
    before = loop.ids(USER, "Which is better?", ASSISTANT)
    tokens = loop.tokenizer(critique.text, add_special_tokens=False, return_offsets_mapping=True)
    [place] = [place for place, (start, end) in enumerate(tokens["offset_mapping"]) if start <= 19 < end]
    ids = tokens["input_ids"]
    assert (len("Better response: [["), loop.tokenizer.decode(ids[place])) == (19, "A")
    given, alone = loop.losses(before, ids)[place], loop.losses(loop.ids(HEADER), ids)[place]
    assert found.tokens == 1
    assert found.loss_with_prompt == pytest.approx(given, abs=1e-4)
    assert found.loss_alone == pytest.approx(alone, abs=1e-4)
    assert math.exp(found.log_perplexity_ratio) == pytest.approx(math.exp(given) / math.exp(alone), rel=1e-3)
    assert found.mean_loss_ratio == pytest.approx(given / alone, rel=1e-4)


async def test_an_evaluation_by_hand(scorer: Scorer, loop: Loop) -> None:
    critique = evaluation("4", "It names the capital.", "It gives no source: \u00e9\u4e2d.")
    found = await scorer.score(single(critique.text))
    given, alone, count = loop.means(evaluation_prompt(scorer.judge, loop, ANSWER), critique)
    assert 3 <= found.tokens == count < len(loop.ids(critique.text))
    assert found.loss_with_prompt == pytest.approx(given, abs=1e-4)
    assert found.loss_alone == pytest.approx(alone, abs=1e-4)
    assert found.log_perplexity_ratio == pytest.approx(given - alone, abs=2e-4)
    assert found.mean_loss_ratio == pytest.approx(given / alone, rel=1e-4)


async def test_the_scorers_id_stands_with_each_value(scorer: Scorer) -> None:
    found = await scorer.score(single("Good."))
    assert found.scorer == scorer.stage.scorer != ""
    assert scorer.judge.engine.info.weights_digest


# ---------------------------------------------------------------------------------------------------- ranks


async def test_ranks_are_those_of_a_plain_loop_by_both_definitions(scorer: Scorer, loop: Loop) -> None:
    """60 labels of many lengths and prompts: evaluations in the format, people's words, and preferences."""
    chance = random.Random(5)

    def words(most: int) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(1, most)))

    ours, plain = [], []
    for number in range(60):
        if number % 3 == 0:
            asked, critique = (
                f"Compare {words(30)}.",
                put_together("Better response: [[", (chance.choice("ABC"),), "]]"),
            )
            event, before = pairwise(asked, critique.text), loop.ids(USER, asked, ASSISTANT)
        else:
            answer = words(20)
            free = put_together((words(25),))
            critique = evaluation(str(chance.randint(1, 5)), words(12), words(12)) if number % 3 == 1 else free
            event, before = single(critique.text, answer), evaluation_prompt(scorer.judge, loop, answer)
        ours.append(await scorer.score(event))
        plain.append(loop.means(before, critique))
    perplexities = [math.exp(given) / math.exp(alone) for given, alone, _ in plain]
    losses = [given / alone for given, alone, _ in plain]
    assert spearmanr([one.log_perplexity_ratio for one in ours], perplexities).statistic > 0.999
    assert spearmanr([one.mean_loss_ratio for one in ours], losses).statistic > 0.999
    # The definitions are two, not one under two names.
    assert spearmanr(perplexities, losses).statistic < 1
