"""Puts together what a server judges with: one given judge, or the versions of a store. `__main__` chooses."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from themis_judge.engines.base import BatchObserver, Engine
from themis_judge.judge import Judge
from themis_judge.store import JudgeStore
from themis_sidecar.admission import Admission
from themis_sidecar.calls import CallRecords
from themis_sidecar.config import EngineConfig, ServerConfig
from themis_sidecar.engines import build_engine
from themis_sidecar.logs import Logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.security.door import Door
from themis_sidecar.versions.board import Board
from themis_sidecar.versions.fleet import Fleet
from themis_sidecar.versions.holding import Holding
from themis_sidecar.versions.loading import Loader
from themis_sidecar.versions.reconciler import Parts, Reconciler
from themis_sidecar.versions.reporting import ReplicaView, Reporter
from themis_sidecar.versions.residents import Residents
from themis_sidecar.versions.rollback import Rollback
from themis_sidecar.versions.service import VersionService
from themis_sidecar.versions.shadow import Shadow, ShadowBounds
from themis_sidecar.versions.store_calls import StoreCalls
from themis_sidecar.versions.supply import FixedJudge

BuildEngine = Callable[[EngineConfig, float, BatchObserver], Engine]


@dataclass(frozen=True, slots=True)
class Judging:
    """What the server's services share. door: who may call, and how much; view: this replica's state as of now."""

    records: CallRecords
    door: Door
    residents: Residents
    admission: Admission
    holding: Holding
    shadow: Shadow
    board: Board
    view: ReplicaView

    @classmethod
    def make(cls, config: ServerConfig, logger: Logger, telemetry: Telemetry) -> Judging:
        """Raises SecurityError."""
        versions, most_tokens = config.versions, config.limits.max_queue_tokens
        records = CallRecords(telemetry.metrics.items.answered)
        http_host = config.http.host if config.http.compat.enabled else None
        door = Door(config.security, config.listen.host, records, logger, http_host)
        residents, admission = Residents(), Admission(most_tokens, limits_of=door.limits_of)
        holding = Holding(residents, admission)
        bounds = ShadowBounds(versions.shadow_waiting, versions.shadow_load_share * most_tokens)
        shadow, board = Shadow(admission, bounds), Board(versions.replica or socket.gethostname())
        view = ReplicaView(board, residents, admission, holding, shadow)
        return cls(records, door, residents, admission, holding, shadow, board, view)


@dataclass(frozen=True, slots=True)
class Fixed:
    """One judge for the server's life."""

    judging: Judging
    supply: FixedJudge
    service: VersionService

    @classmethod
    def make(cls, judge: Judge, config: ServerConfig, logger: Logger, telemetry: Telemetry) -> Fixed:
        """Raises SecurityError."""
        judging = Judging.make(config, logger, telemetry)
        supply = FixedJudge(judge, judging.residents, telemetry.metrics.swaps)
        return cls(judging, supply, VersionService(None, judging.view, judging.board))


@dataclass(frozen=True, slots=True)
class Followed:
    """The versions that a store asks for."""

    judging: Judging
    supply: Reconciler
    service: VersionService

    @classmethod
    def make(
        cls,
        store: JudgeStore,
        config: ServerConfig,
        logger: Logger,
        telemetry: Telemetry,
        build: BuildEngine = build_engine,
    ) -> Followed:
        """Raises SecurityError."""
        judging, calls, own = Judging.make(config, logger, telemetry), StoreCalls(store), config.versions
        metrics = telemetry.metrics

        def make_engine(model: str) -> Engine:
            engine = config.engine.model_copy(update={"model": model})
            return telemetry.tracing.engine(build(engine, config.limits.stuck_after_s, metrics.engine.batch))

        parts = Parts(
            store=calls,
            loader=Loader(calls, make_engine, own.warm_up_s),
            residents=judging.residents,
            shadow=judging.shadow,
            board=judging.board,
            reporter=Reporter(calls, judging.board, judging.view, logger, own.report_s),
            rollback=Rollback(
                calls, judging.residents, judging.board, metrics.swaps, logger, own.max_resident, own.stale_after_s
            ),
            metrics=metrics,
            logger=logger,
        )
        reconciler = Reconciler(parts, own.max_resident, own.poll_s)
        fleet = Fleet(calls, own.max_resident, judging.board.replica, own.stale_after_s, reconciler.wake)
        return cls(judging, reconciler, VersionService(fleet, judging.view, judging.board))
