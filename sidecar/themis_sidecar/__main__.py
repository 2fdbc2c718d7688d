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
from themis_judge.store import JudgeStore
from themis_judge.version import JudgeSettings
from themis_sidecar.config import JudgeConfig, Launch, ServerConfig, read_command_line
from themis_sidecar.config.server import SUPERVISE
from themis_sidecar.engines import build_engine
from themis_sidecar.http.compat.routes import compat_routes
from themis_sidecar.http.port import HttpPort
from themis_sidecar.http.routes import observation_routes
from themis_sidecar.http.status import StatusPage
from themis_sidecar.lifecycle import Lifecycle
from themis_sidecar.logs import LibraryHandler, Logger, make_logger
from themis_sidecar.observe.otlp import MissingExtra
from themis_sidecar.observe.telemetry import Telemetry, open_telemetry
from themis_sidecar.ready import ReadyFile
from themis_sidecar.security.environment import check_environment
from themis_sidecar.security.errors import SecurityError
from themis_sidecar.server import Server
from themis_sidecar.supervisor import BAD_SETTINGS, Supervisor
from themis_sidecar.versions.assembly import Fixed, Followed
from themis_sidecar.versions.triggers import listening


def main() -> None:
    launch = _launch(sys.argv[1:])
    if launch.supervise:
        unsupervised = [argument for argument in sys.argv[1:] if argument != SUPERVISE]
        raise SystemExit(supervise([sys.executable, "-m", "themis_sidecar", *unsupervised], launch))
    try:
        check_environment(os.environ, launch.config)
        with open_telemetry(launch.config.tracing, version("themis-sidecar")) as telemetry:
            if launch.config.store.url is None:
                serve(_judge(launch.config, telemetry), launch, telemetry)
            else:
                serve_versions(_store(launch.config.store.url, launch.config), launch, telemetry)
    except (EngineError, JudgeError, MissingExtra, OSError, SecurityError) as error:  # what was named isn't there
        raise SystemExit(f"themis-sidecar: {error}") from error


def supervise(command: list[str], launch: Launch) -> int:
    """Runs `command` until it need not be started again; gives its last exit code."""
    logger = make_logger(launch.config.log, sys.stderr)

    async def run() -> int:
        return await Supervisor(command, launch.config.supervisor, ReadyFile(launch.ready_file), logger).run()

    return asyncio.run(run())


def serve(judge: Judge, launch: Launch, telemetry: Telemetry) -> None:
    """Serves `judge` until the process is told to stop."""
    logger = _logger(launch.config)

    async def run() -> None:
        await _live(Fixed.make(judge, launch.config, logger, telemetry), launch, logger, telemetry)

    _run(run())


def serve_versions(store: JudgeStore, launch: Launch, telemetry: Telemetry) -> None:
    """Serves the versions that `store` asks for until the process is told to stop."""
    logger = _logger(launch.config)

    async def run() -> None:
        parts = Followed.make(store, launch.config, logger, telemetry)
        kafka = launch.config.versions.kafka
        with listening(kafka, parts.supply.wake, logger) if kafka.bootstrap_servers else nullcontext():
            await _live(parts, launch, logger, telemetry)

    _run(run())


async def _live(parts: Fixed | Followed, launch: Launch, logger: Logger, telemetry: Telemetry) -> None:
    server = Server(parts, launch.config, logger, version("themis-sidecar"), telemetry)
    ready_file, http = ReadyFile(launch.ready_file), _http(server, parts, launch.config, logger, telemetry)
    await Lifecycle(parts.supply, parts.judging.residents, server, ready_file, os._exit, logger, http).run()


def _http(
    server: Server, parts: Fixed | Followed, config: ServerConfig, logger: Logger, telemetry: Telemetry
) -> HttpPort | None:
    if config.http.port is None:
        return None
    status = StatusPage(server, config, telemetry, version("themis-sidecar"))
    observing = observation_routes(telemetry.metrics.registry, status, server.lets_in)
    scoring = compat_routes(config, server.service, parts.judging, logger, telemetry)
    return HttpPort(config.http, (*observing, *scoring))


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


def _judge(config: ServerConfig, telemetry: Telemetry) -> Judge:
    scenarios = load_scenarios(config.judge.scenario_dirs)  # first: an engine takes seconds to import
    engine = build_engine(config.engine, config.limits.stuck_after_s, telemetry.metrics.engine.batch)
    return Judge(telemetry.tracing.engine(engine), scenarios, _judge_settings(config.judge))


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
