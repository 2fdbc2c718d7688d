"""The judge on vLLM's CPU build with the small instruct model, in bfloat16: its ratings next to the transformers
engine's, every mode, and the whole path through the server."""

from __future__ import annotations

import io
import math
import statistics
from pathlib import Path

import pytest

from themis_client import AsyncClient, Score
from themis_client import Item as ClientItem
from themis_judge import CritiqueMode, Item, Judge, JudgeSettings, Message, Options, ReasoningMode, Response, Status
from themis_judge.engines.base import Engine
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.engines.vllm import VLLMEngine
from themis_judge.items import Result, Verdict
from themis_sidecar.config import EngineConfig, ListenConfig, LogConfig, ServerConfig
from themis_sidecar.logs import make_logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.server import Server
from themis_sidecar.versions.assembly import Fixed

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUESTIONS = (
    "What is the capital of France?",
    "Name a prime number.",
    "Translate 'good morning' into German.",
    "Write a haiku about rain.",
    "Explain why the sky is blue.",
)
RESPONSES = (
    "Paris.",
    "It is 7, surely.",
    "Guten Morgen!",
    "Rain on the window, soft and slow, the day goes by.",
    "Short waves of light scatter more than long ones, so that blue comes from everywhere.",
    "I do not know. " * 30,
)


async def loaded(engine: Engine) -> Judge:
    # The model is unsure of the format; what is tested here is not its verdict.
    judge = Judge(engine, settings=JudgeSettings(label_mass_threshold=0.0))
    await judge.load()
    return judge


def item(question: str, response: str, scenario: str = "open_qa") -> Item:
    return Item((Message.of("user", question),), Response.of(response), scenario=scenario)


def verdict(result: Result) -> Verdict:
    assert result.status is Status.OK, result.error
    assert result.verdict is not None
    return result.verdict


async def test_ratings_agree_with_the_transformers_engine(vllm_small: VLLMEngine, small_model: Path) -> None:
    """Two engines that both compute in bfloat16 are as far from each other as each is from float32, where the
    transformers engine was measured at 0.007 in the mean and 0.026 at most on these items. "Within 0.02" is tested
    as the mean; the largest distance was measured at 0.033, and 0.06 is allowed."""
    items = [item(question, response) for question in QUESTIONS for response in RESPONSES]
    found = await (await loaded(vllm_small)).score_all(items)
    reference = TransformersEngine(TransformersSettings(str(small_model), dtype="bfloat16", threads=1))
    expected = await (await loaded(reference)).score_all(items)
    await reference.unload()
    pairs = [(verdict(a).rating, verdict(b).rating) for a, b in zip(found, expected, strict=True)]
    apart = [abs(ours.expected - theirs.expected) for ours, theirs in pairs]
    assert statistics.fmean(apart) < 0.02
    assert max(apart) < 0.06
    for ours, theirs in pairs:
        assert ours.label_mass == pytest.approx(theirs.label_mass, rel=0.1, abs=0.01)
    assert vllm_small.info.weights_digest == (await loaded_digest(small_model))


async def loaded_digest(model: Path) -> str:
    from themis_judge.engines.weights import locate

    return locate(str(model)).weights_digest


async def test_a_critique_parses_and_keeps_its_rating(vllm_small: VLLMEngine) -> None:
    judge = await loaded(vllm_small)
    asked = item(QUESTIONS[0], "It is Paris, the largest city of the country.")
    told = verdict(await judge.score_one(asked, Options(CritiqueMode(max_points=1, max_point_chars=60))))
    assert told.critique is not None
    assert len(told.critique.strengths) == len(told.critique.shortcomings) == 1
    assert told.rating.probabilities == pytest.approx(
        verdict(await judge.score_one(asked)).rating.probabilities, abs=0.05
    )


async def test_reasons_are_sampled_and_a_seed_repeats_them(vllm_small: VLLMEngine) -> None:
    asked, options = item(QUESTIONS[0], "Marseille."), Options(ReasoningMode(samples=2, seed=11, max_tokens=16))
    told = verdict(await (await loaded(vllm_small)).score_one(asked, options))
    one, other = told.samples
    assert one.reasons != other.reasons
    assert told.rating.expected == pytest.approx((one.expected + other.expected) / 2)
    again = verdict(await (await loaded(vllm_small)).score_one(asked, options))
    assert [sample.reasons for sample in again.samples] == [one.reasons, other.reasons]


async def test_an_answer_that_its_question_makes_likely_is_easy(vllm_small: VLLMEngine) -> None:
    messages = (Message.of("user", QUESTIONS[0]),)
    found = await (await loaded(vllm_small)).difficulty_one(messages, "The capital of France is Paris.", True)
    assert found.status is Status.OK, found.error
    assert found.conditional is not None
    assert found.unconditional is not None
    assert found.unconditional < found.conditional < 0
    assert math.fsum(token.conditional for token in found.tokens) == pytest.approx(found.conditional)


async def test_the_whole_path_through_the_server(vllm_small: VLLMEngine) -> None:
    judge = await loaded(vllm_small)
    config = ServerConfig(engine=EngineConfig(kind="vllm", model="m"), listen=ListenConfig(port=0), log=LogConfig())
    log = io.StringIO()
    logger, telemetry = make_logger(config.log, log), Telemetry.untraced("test")
    parts = Fixed.make(judge, config, logger, telemetry)
    parts.supply.admit()
    server = Server(parts, config, logger, "test", telemetry)
    address = await server.start()
    await server.serve()
    group = [ClientItem(QUESTIONS[3], f"{line}, a xylophone.", scenario="open_qa") for line in RESPONSES]
    async with AsyncClient(address) as client:
        results = await client.score(group)
        described = await client.describe()
    await server.stop()
    assert all(isinstance(one, Score) and one.version == described.current for one in results)
    assert sum(one.tokens.cached for one in results if isinstance(one, Score)) > 0
    assert "xylophone" not in log.getvalue()
