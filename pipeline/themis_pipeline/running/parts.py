"""What stages share in a process: opened once, and only where a stage that runs needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum

from prometheus_client import CollectorRegistry, Counter

from themis_client import AsyncClient, ThemisError, Tls
from themis_judge.scenarios import Scenario, load_scenarios
from themis_pipeline.config import EndpointConfig, LLMConfig, PipelineConfig, SidecarConfig
from themis_pipeline.llm.accounts import Accounts
from themis_pipeline.llm.client import LLM
from themis_pipeline.llm.metrics import LLMCollector
from themis_pipeline.llm.opening import make_endpoints, open_llm
from themis_pipeline.running.detecting import open_detector
from themis_pipeline.running.logs import Logger
from themis_pipeline.stages.code import CodeLimits, CodeRunner
from themis_pipeline.stages.errors import BadSetting
from themis_pipeline.stages.gates import Gates, GateSettings
from themis_pipeline.topics import STAGES


class Need(Enum):
    SIDECAR = "sidecar"
    LLM = "llm"
    TEACHER = "teacher"
    """With LLM: one of them labels."""
    GATES = "gates"


class DropCounter:
    """What handlers leave out, by stage and reason; a stage's `Dropped`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "themis_pipeline_dropped", "What a stage left out, by why.", ("stage", "code"), registry=registry
        )

    def __call__(self, stage: str, code: str) -> None:
        self._counter.labels(stage, code).inc()


@dataclass(frozen=True, slots=True)
class Parts:
    """What is not needed is not there; asking for it then is a mistake in the table of stages."""

    config: PipelineConfig
    scenarios: Mapping[str, Scenario]
    dropped: DropCounter
    code: CodeRunner | None
    opened: Mapping[Need, object] = field(default_factory=dict)

    @property
    def client(self) -> AsyncClient:
        found = self.opened[Need.SIDECAR]
        assert isinstance(found, AsyncClient)
        return found

    @property
    def llm(self) -> LLM:
        return self.opened[Need.LLM]  # type: ignore[return-value]

    @property
    def gates(self) -> Gates:
        found = self.opened[Need.GATES]
        assert isinstance(found, Gates)
        return found


def teacher(config: PipelineConfig) -> EndpointConfig:
    """Raises BadSetting."""
    if config.label.teacher is None:
        raise BadSetting("label.teacher: name the endpoint that labels")
    judge_family(config)  # a teacher may be none of it
    return endpoint("label.teacher", config.label.teacher, config.llm)


def judge_family(config: PipelineConfig) -> str:
    """Raises BadSetting."""
    if not config.judge.lineage:
        raise BadSetting("judge.lineage: say what the judge that learns from labels descends from, the family first")
    return config.judge.lineage[0]


def endpoint(setting: str, name: str, llm: LLMConfig) -> EndpointConfig:
    """Raises BadSetting."""
    for one in llm.endpoints:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in llm.endpoints) or "none"
    raise BadSetting(f"{setting}: no endpoint is called {name}; llm.endpoints has {names}")


@asynccontextmanager
async def open_parts(
    config: PipelineConfig, needs: Collection[Need], registry: CollectorRegistry, logger: Logger
) -> AsyncIterator[Parts]:
    """Raises BadSetting, BadScenario, StoreError, OSError, ValueError for what was named and can't be used."""
    async with AsyncExitStack() as stack:
        opened: dict[Need, object] = {}
        if Need.GATES in needs:
            opened[Need.GATES] = _gates(config)
        if Need.SIDECAR in needs:
            opened[Need.SIDECAR] = await stack.enter_async_context(_client(config.sidecar, logger))
        if Need.LLM in needs:
            opened[Need.LLM] = await stack.enter_async_context(_llm(config, needs, registry, logger))
        yield Parts(config, load_scenarios(config.data.scenario_dirs), DropCounter(registry), _code(config), opened)


def _gates(config: PipelineConfig) -> Gates:
    gate = config.gate
    settings = GateSettings(frozenset(gate.languages), gate.min_confidence, gate.min_chars, gate.max_chars)
    return Gates(settings, open_detector())


def _code(config: PipelineConfig) -> CodeRunner | None:
    code = config.code
    if not code.run:
        return None
    limits = CodeLimits(wall_s=code.wall_s, cpu_s=code.cpu_s, memory_bytes=code.memory_bytes)
    return CodeRunner(limits, code.at_once)


@asynccontextmanager
async def _llm(
    config: PipelineConfig, needs: Collection[Need], registry: CollectorRegistry, logger: Logger
) -> AsyncIterator[LLM]:
    unknown = sorted(set(config.llm.budget.stages) - set(STAGES))
    if unknown:
        raise BadSetting(f"llm.budget.stages: no stage is called {', '.join(unknown)}")
    teachers = [teacher(config).name] if Need.TEACHER in needs else []

    def warn(text: str) -> None:
        logger.warning("lineage", message=text)

    endpoints, accounts = make_endpoints(config.llm), Accounts()
    async with open_llm(
        config.llm, endpoints, lambda: config.judge.lineage, accounts, teachers=teachers, warn=warn
    ) as llm:
        registry.register(LLMCollector(accounts, llm))
        yield llm


@asynccontextmanager
async def _client(config: SidecarConfig, logger: Logger) -> AsyncIterator[AsyncClient]:
    if config.target is None:
        raise BadSetting("sidecar.target: a stage that runs asks the sidecar; say where it is, as host:port")
    tls = config.tls
    async with AsyncClient(
        config.target,
        timeout_s=config.timeout_s,
        token=None if config.token is None else config.token.get_secret_value(),
        token_file=config.token_file,
        tls=Tls(tls.ca_file, tls.cert_file, tls.key_file, tls.server_name) if tls.enabled else None,
    ) as client:
        following = asyncio.create_task(_follow(client, config.refresh_s, logger))
        try:
            yield client
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following


async def _follow(client: AsyncClient, every_s: float, logger: Logger) -> None:
    """A client keeps to the version of its first call, and this process outlives versions."""
    while True:
        await asyncio.sleep(every_s)
        before = client.version
        try:
            after = await client.refresh_version()
        except ThemisError as error:
            logger.warning("sidecar_away", error=error)
            continue
        if after != before:
            logger.info("judge_version", version=after)
