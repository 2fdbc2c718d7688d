"""`themis-sidecar`: reads the settings, puts the parts together, serves."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from themis_judge.engines.base import EngineError
from themis_judge.errors import JudgeError
from themis_judge.judge import Judge
from themis_judge.scenarios import load_scenarios
from themis_judge.store import JudgeStore, StoreError
from themis_judge.version import JudgeSettings
from themis_sidecar.config import JudgeConfig, Launch, ServerConfig, read_command_line
from themis_sidecar.engines import build_engine
from themis_sidecar.lifecycle import Lifecycle
from themis_sidecar.logs import LibraryHandler, Logger, make_logger
from themis_sidecar.ready import ReadyFile
from themis_sidecar.server import Server
from themis_sidecar.versions.assembly import Fixed, Followed
from themis_sidecar.versions.triggers import listening

BAD_SETTINGS = 2


def main() -> None:
    launch = _launch(sys.argv[1:])
    try:
        if launch.config.store.url is None:
            serve(_judge(launch.config), launch)
        else:
            serve_versions(_store(launch.config.store.url, launch.config), launch)
    except (EngineError, JudgeError, StoreError, OSError) as error:  # a model, a scenario or a port that isn't there
        raise SystemExit(f"themis-sidecar: {error}") from error


def serve(judge: Judge, launch: Launch) -> None:
    """Serves `judge` until the process is told to stop."""
    logger = _logger(launch.config)

    async def run() -> None:
        await _live(Fixed.make(judge, launch.config), launch, logger)

    _run(run())


def serve_versions(store: JudgeStore, launch: Launch) -> None:
    """Serves the versions that `store` asks for until the process is told to stop."""
    logger = _logger(launch.config)

    async def run() -> None:
        parts = Followed.make(store, launch.config, logger)
        kafka = launch.config.versions.kafka
        with listening(kafka, parts.supply.wake, logger) if kafka.bootstrap_servers else nullcontext():
            await _live(parts, launch, logger)

    _run(run())


async def _live(parts: Fixed | Followed, launch: Launch, logger: Logger) -> None:
    judging, ready_file = parts.judging, ReadyFile(launch.ready_file)
    server = Server(judging, parts.service, launch.config, logger, version("themis-sidecar"))
    await Lifecycle(parts.supply, judging.residents, server, ready_file, os._exit, logger).run()


def _logger(config: ServerConfig) -> Logger:
    logger = make_logger(config.log, sys.stderr)
    logging.basicConfig(handlers=[LibraryHandler(logger)], level=logging.WARNING, force=True)
    return logger


def _launch(arguments: list[str]) -> Launch:
    try:
        return read_command_line(arguments)
    except ValidationError as error:
        problems = [_problem(problem["loc"], problem["msg"]) for problem in error.errors()]
    except SettingsError as error:
        problems = [str(error)]
    sys.stderr.write("".join(f"themis-sidecar: {problem}\n" for problem in problems))
    raise SystemExit(BAD_SETTINGS)


def _problem(place: tuple[int | str, ...], text: str) -> str:
    """What concerns several sections at once has no place of its own, and names them."""
    return f"{'.'.join(map(str, place))}: {text}" if place else text.removeprefix("Value error, ")


def _store(url: str, config: ServerConfig) -> JudgeStore:
    own = config.store
    return JudgeStore.open(url, own.cache_dir, own.cache_bytes, own.timeout_s)


def _judge(config: ServerConfig) -> Judge:
    scenarios = load_scenarios(config.judge.scenario_dirs)  # first: an engine takes seconds to import
    engine = build_engine(config.engine, config.limits.stuck_after_s)
    return Judge(engine, scenarios, _judge_settings(config.judge))


def _judge_settings(config: JudgeConfig) -> JudgeSettings:
    chosen = config.reference_scenarios
    return JudgeSettings(
        data_order=config.data_order,
        verdict_order=config.verdict_order,
        label_mass_threshold=config.label_mass_threshold,
        reference_scenarios=None if chosen is None else frozenset(chosen),
    )


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        asyncio.run(work)
    else:
        uvloop.run(work)


if __name__ == "__main__":
    main()
