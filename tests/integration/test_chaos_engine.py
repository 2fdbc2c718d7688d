"""An engine that fails at every fifth prompt: those items say so, others are untouched, and retries cure them. One
that hangs is given up, and its server with it."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
import torch

from tests.integration.sidecar_fakes import make_config, make_server
from tests.unit.judge.fakes import FakeEngine, by_digest
from themis_client import AsyncClient, Item, RetryPolicy, ScoreOptions, Unavailable
from themis_client.failure import Failure, Status
from themis_client.options import CriteriaMode, CritiqueMode, Mode, RatingMode
from themis_client.results import Scored
from themis_judge.engines.base import EngineError, Generation, Labels, Sampling
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.judge import Judge
from themis_judge.version import JudgeSettings
from themis_sidecar.config import LogConfig
from themis_sidecar.lifecycle import Lifecycle
from themis_sidecar.logs import make_logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.ready import ReadyFile
from themis_sidecar.server import Server
from themis_sidecar.versions.assembly import Fixed
from themis_sidecar.watchdog import ENGINE_FAILED

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
    await judge.load()
    server = make_server(judge, make_logger(LogConfig(), log))
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


async def test_a_model_that_hangs_ends_its_server(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    settings = TransformersSettings(str(tiny_model("llama")), dtype="float32", stuck_after_s=0.5)
    judge = Judge(TransformersEngine(settings))
    log, ready, codes = io.StringIO(), tmp_path / "ready", list[int]()
    logger, telemetry, config = make_logger(LogConfig(), log), Telemetry.untraced("1.2.3"), make_config()
    parts = Fixed.make(judge, config, logger, telemetry)
    server, residents = Server(parts, config, logger, "1.2.3", telemetry), parts.judging.residents
    running = asyncio.create_task(
        Lifecycle(parts.supply, residents, server, ReadyFile(ready), codes.append, logger, None).run()
    )
    while not ready.exists():
        assert not running.done(), log.getvalue()
        await asyncio.sleep(0.02)
    on = threading.Event()

    def hang(*_: object) -> None:
        on.wait()

    hook = torch.nn.modules.module.register_module_forward_pre_hook(hang)
    try:
        async with AsyncClient(ready.read_text().strip(), retry=RetryPolicy(attempts=1), timeout_s=60) as client:
            with pytest.raises(Unavailable, match="stuck"):
                await client.score([ITEMS[0]])
        await running
    finally:
        hook.remove()
        on.set()
        await judge.unload()
    assert codes == [ENGINE_FAILED]
    assert not ready.exists()
    assert '"event": "engine_failed"' in log.getvalue()
    assert SECRET not in log.getvalue()
