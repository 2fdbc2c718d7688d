"""An engine that fails at every fifth prompt: those items say so, others are untouched, and retries cure them."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from tests.integration.sidecar_fakes import make_server
from tests.unit.judge.fakes import FakeEngine, by_digest
from themis_client import AsyncClient, Item, RetryPolicy, ScoreOptions
from themis_client.failure import Failure, Status
from themis_client.options import CriteriaMode, CritiqueMode, Mode, RatingMode
from themis_client.results import Scored
from themis_judge.engines.base import EngineError, Generation, Labels, Sampling
from themis_judge.judge import Judge
from themis_judge.version import JudgeSettings
from themis_sidecar.config import LogConfig
from themis_sidecar.logs import make_logger

EVERY = 5
SECRET = "canary-51c7"
ITEMS = [
    Item(f"question {SECRET} {number}", f"answer {number}", key=f"{number}", scenario="math") for number in range(40)
]


class Failing:
    """An engine's scripts, with a counter that both share."""

    def __init__(self) -> None:
        self._count = count(1)

    def answer(self, text: str, labels: Labels) -> tuple[float, ...]:
        self._fail_now_and_then()
        return by_digest(text, labels)

    def write(self, text: str, sampling: Sampling) -> Generation:
        self._fail_now_and_then()
        return Generation("Strengths:\n- It is clear. [[4]]\nShortcomings:\n- It is short. [[2]]\n", False)

    def _fail_now_and_then(self) -> None:
        if next(self._count) % EVERY == 0:
            raise EngineError("the device did not answer")


@asynccontextmanager
async def failing(log: io.StringIO) -> AsyncIterator[str]:
    script = Failing()
    judge = Judge(FakeEngine(script.answer, script.write), settings=JudgeSettings(label_mass_threshold=0.0))
    server = make_server(judge, make_logger(LogConfig(), log))
    await judge.load()
    address = await server.start()
    await server.serve()
    try:
        yield address
    finally:
        await server.stop()


async def scored(client: AsyncClient, stream: bool, mode: Mode) -> list[Scored]:
    options = ScoreOptions(mode=mode)
    if not stream:
        return list(await client.score(ITEMS, options=options))
    found = {index: result async for index, result in client.stream(ITEMS, options=options)}
    return [found[index] for index in range(len(ITEMS))]


@pytest.mark.parametrize("stream", [False, True])
async def test_without_retries_just_those_items_fail(stream: bool) -> None:
    log = io.StringIO()
    async with failing(log) as address, AsyncClient(address, retry=RetryPolicy(attempts=1)) as client:
        results = await scored(client, stream, RatingMode())
        failures = [result for result in results if isinstance(result, Failure)]
        assert len(failures) == len(ITEMS) // EVERY
        assert {failure.status for failure in failures} == {Status.ENGINE_ERROR}
        assert all(failure.version for failure in failures)
        assert await scored(client, stream, RatingMode()) != results  # others this time: they have nothing of their own
    assert '"event": "incident"' not in log.getvalue()
    assert SECRET not in log.getvalue()


@pytest.mark.parametrize("mode", [RatingMode(), CritiqueMode(), CriteriaMode()])
@pytest.mark.parametrize("stream", [False, True])
async def test_retries_cure_what_comes_and_goes_and_change_no_score(stream: bool, mode: Mode) -> None:
    patient = RetryPolicy(attempts=30, base_s=0.001, cap_s=0.01)
    async with failing(io.StringIO()) as address, AsyncClient(address, retry=patient) as client:
        results = await scored(client, stream, mode)
        assert all(result.ok for result in results)
        assert [result.key for result in results] == [item.key for item in ITEMS]
        again = await scored(client, not stream, mode)
    assert [float(result) for result in again if result.ok] == [float(result) for result in results if result.ok]  # type: ignore[arg-type]
