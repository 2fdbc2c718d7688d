"""One process with one stage or several: from their settings to a graceful end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager

from prometheus_client import CollectorRegistry, ProcessCollector

from themis_judge.errors import JudgeError
from themis_judge.store.errors import StoreError
from themis_pipeline.config import PipelineConfig
from themis_pipeline.llm.errors import LLMError
from themis_pipeline.runner.metrics import RunnerFamilies
from themis_pipeline.runner.watchdog import Watchdog
from themis_pipeline.running.composing import Surroundings, make_runner, make_transport
from themis_pipeline.running.health import Health
from themis_pipeline.running.logs import Logger, loop_error_handler
from themis_pipeline.running.parts import Need, open_parts
from themis_pipeline.running.patience import Patience
from themis_pipeline.running.port import serving
from themis_pipeline.running.pruning import pruning
from themis_pipeline.running.registry import KINDS, OWN
from themis_pipeline.running.seam import Runs
from themis_pipeline.running.together import Together
from themis_pipeline.stages.errors import StageError

LEAVING_S = 90.0
"""For the last transactions and for leaving the groups, beside the time in which records in hand are finished."""


class CantStart(Exception):
    """Something that the settings name isn't there, or can't be as it is; the text says which."""


async def run_stages(config: PipelineConfig, names: Sequence[str], instance: str, logger: Logger) -> None:
    """Until SIGTERM or SIGINT; a second one ends the process at once. Raises CantStart and StageFailed."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    asyncio.get_running_loop().set_exception_handler(loop_error_handler(logger))
    needs = {need for name in names if name in KINDS for need in KINDS[name].needs}
    async with AsyncExitStack() as opened:
        around = Surroundings(
            config,
            instance,
            make_transport(config),
            opened.enter_context(_watching()),
            RunnerFamilies(registry),
            Patience(),
            logger,
        )
        ending = opened.enter_context(ExitStack())
        try:
            parts = await opened.enter_async_context(open_parts(config, needs, registry, logger))
            stages: dict[str, Runs] = {
                name: make_runner(name, KINDS[name], parts, around)
                if name in KINDS
                else opened.enter_context(OWN[name](around))
                for name in names
            }
            health = Health(stages, around.families)
            await opened.enter_async_context(serving(config.metrics, registry, health, logger))
        except (JudgeError, LLMError, OSError, StageError, StoreError, ValueError) as error:
            raise CantStart(str(error)) from error
        if Need.LLM in needs:
            await opened.enter_async_context(pruning(config.llm, logger))
        await _until_stopped(stages, health, around, ending)


async def _until_stopped(stages: Mapping[str, Runs], health: Health, around: Surroundings, ending: ExitStack) -> None:
    def stopping() -> None:
        health.stopping = True
        around.patience.end()
        limit_s = around.config.runner.drain_s + LEAVING_S
        ending.enter_context(around.watchdog.guard("the end of the process", limit_s))

    together = Together(stages, around.logger, stopping)
    with _signals(together.stop, around.logger):
        around.logger.info("running", stages=list(stages), instance=around.instance)
        await together.run()
    around.logger.info("stopped")


@contextmanager
def _watching() -> Iterator[Watchdog]:
    watchdog = Watchdog()
    watchdog.start()
    try:
        yield watchdog
    finally:
        watchdog.stop()


@contextmanager
def _signals(stop: Callable[[], None], logger: Logger) -> Iterator[None]:
    told: list[signal.Signals] = []

    def on(number: signal.Signals) -> None:
        if told:
            logger.warning("cut_off", signal=number.name)
            os._exit(128 + number)
        told.append(number)
        logger.info("stopping", signal=number.name)
        stop()

    loop = asyncio.get_running_loop()
    handled = (signal.SIGTERM, signal.SIGINT)
    for number in handled:
        loop.add_signal_handler(number, on, number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
