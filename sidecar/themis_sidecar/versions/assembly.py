"""Puts together what a server judges with: one given judge, or the versions of a store. `__main__` chooses."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from themis_judge.engines.base import Engine
from themis_judge.judge import Judge
from themis_judge.store import JudgeStore
from themis_sidecar.admission import Admission
from themis_sidecar.config import EngineConfig, LimitsConfig, ServerConfig, VersionsConfig
from themis_sidecar.engines import build_engine
from themis_sidecar.logs import Logger
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


@dataclass(frozen=True, slots=True)
class Judging:
    """What the server's services share. view: this replica's state as of now."""

    residents: Residents
    admission: Admission
    holding: Holding
    shadow: Shadow
    board: Board
    view: ReplicaView

    @classmethod
    def make(cls, limits: LimitsConfig, versions: VersionsConfig) -> Judging:
        residents, admission = Residents(), Admission(limits.max_queue_tokens)
        holding = Holding(residents, admission)
        bounds = ShadowBounds(versions.shadow_waiting, versions.shadow_load_share * limits.max_queue_tokens)
        shadow, board = Shadow(admission, bounds), Board(versions.replica or socket.gethostname())
        view = ReplicaView(board, residents, admission, holding, shadow)
        return cls(residents, admission, holding, shadow, board, view)


@dataclass(frozen=True, slots=True)
class Fixed:
    """One judge for the server's life."""

    judging: Judging
    supply: FixedJudge
    service: VersionService

    @classmethod
    def make(cls, judge: Judge, config: ServerConfig) -> Fixed:
        judging = Judging.make(config.limits, config.versions)
        return cls(judging, FixedJudge(judge, judging.residents), VersionService(None, judging.view, judging.board))


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
        build: Callable[[EngineConfig, float], Engine] = build_engine,
    ) -> Followed:
        judging, calls, own = Judging.make(config.limits, config.versions), StoreCalls(store), config.versions

        def make_engine(model: str) -> Engine:
            return build(config.engine.model_copy(update={"model": model}), config.limits.stuck_after_s)

        parts = Parts(
            store=calls,
            loader=Loader(calls, make_engine, own.warm_up_s),
            residents=judging.residents,
            shadow=judging.shadow,
            board=judging.board,
            reporter=Reporter(calls, judging.board, judging.view, logger, own.report_s),
            rollback=Rollback(calls, judging.residents, judging.board, logger, own.stale_after_s),
            logger=logger,
        )
        reconciler = Reconciler(parts, own.max_resident, own.poll_s)
        fleet = Fleet(calls, own.max_resident, judging.board.replica, own.stale_after_s, reconciler.wake)
        return cls(judging, reconciler, VersionService(fleet, judging.view, judging.board))
