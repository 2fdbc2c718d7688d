"""VersionService: each method checks its call, changes what the fleet should hold, and tells how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc

from themis_judge.engines.base import Deadline
from themis_proto.v1 import versions_pb2 as pb
from themis_proto.v1 import versions_pb2_grpc
from themis_sidecar.errors import CallTimeout, FailedPrecondition, InvalidCall, Unavailable
from themis_sidecar.gate import Gate
from themis_sidecar.versions import convert
from themis_sidecar.versions.board import Board
from themis_sidecar.versions.fleet import Fleet
from themis_sidecar.versions.reporting import StateTeller

MAX_CALLS = 64  # in flight: people, jobs, and the leases of running clients, which each renew now and then
MAX_CALL_S = 3600.0
ANSWER_MARGIN_S = 0.2  # of a caller's deadline, so that what a wait came to still reaches it
MAX_TTL_S = 86_400.0
MAX_TEXT_CHARACTERS = 500

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class VersionService(versions_pb2_grpc.VersionServiceServicer):
    """fleet: None where the server has no store. Answers while the server loads and drains, too: that's when it is
    asked. Errors of a call are raised as CallError, for the interceptor."""

    def __init__(self, fleet: Fleet | None, state: StateTeller, board: Board) -> None:
        self._fleet = fleet
        self._state = state
        self._board = board
        self._gate = Gate(MAX_CALLS)
        self._gate.open()

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        async with self._call(context):
            answering = convert.write_replica(self._state())
            if self._fleet is None:
                return pb.ListResponse(fleet=pb.FleetState(replicas=[answering]), answering=answering)
            try:
                stored, found = await self._fleet.stored(), await self._fleet.overview()
            except Unavailable as error:
                return pb.ListResponse(answering=answering, store_problem=str(error))
            return pb.ListResponse(
                versions=[convert.write_stored(entry, leases) for entry, leases in stored],
                fleet=convert.write_fleet(found.desired, found.reports),
                answering=answering,
                store_problem=self._board.store_problem,
            )

    async def Load(self, request: pb.LoadRequest, context: Context) -> pb.LoadResponse:
        async with self._call(context) as deadline:
            fleet = self._needed_fleet()
            _check_change(request)
            if request.stop_shadow:
                if request.version or request.HasField("shadow_share"):
                    raise InvalidCall("stop_shadow", "goes with no version and no share: at most one runs in shadow")
                number = await fleet.stop_shadow(request.by, request.why)
            else:
                share = _share(request)
                number = await fleet.load(_version(request.version), request.by, request.why, share)
            reached, state = await self._wait(fleet, number, request.wait_s, deadline)
            return pb.LoadResponse(fleet=state, reached=reached)

    async def Promote(self, request: pb.PromoteRequest, context: Context) -> pb.PromoteResponse:
        async with self._call(context) as deadline:
            fleet = self._needed_fleet()
            _check_change(request)
            number = await fleet.promote(
                _version(request.version), request.by, request.why, request.expected_current, request.force
            )
            reached, state = await self._wait(fleet, number, request.wait_s, deadline)
            return pb.PromoteResponse(fleet=state, reached=reached)

    async def Retire(self, request: pb.RetireRequest, context: Context) -> pb.RetireResponse:
        async with self._call(context) as deadline:
            fleet = self._needed_fleet()
            _check_change(request)
            number = await fleet.retire(_version(request.version), request.by, request.why, request.unload_only)
            reached, state = await self._wait(fleet, number, request.wait_s, deadline)
            return pb.RetireResponse(fleet=state, reached=reached)

    async def Hold(self, request: pb.HoldRequest, context: Context) -> pb.HoldResponse:
        async with self._call(context):
            fleet = self._needed_fleet()
            _check_texts(holder=request.holder)
            if not request.holder:
                raise InvalidCall("holder", "is empty; say who needs the version")
            if not 0 < request.ttl_s <= MAX_TTL_S:
                raise InvalidCall("ttl_s", f"is {request.ttl_s:g}; it must be above 0 and at most {MAX_TTL_S:g}")
            lease = await fleet.hold(_version(request.version), request.holder, request.ttl_s, request.lease_id or None)
            return pb.HoldResponse(lease=convert.write_lease(lease))

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        async with self._call(context):
            fleet = self._needed_fleet()
            if not request.lease_id:
                raise InvalidCall("lease_id", "is empty; name the lease")
            await fleet.release(request.lease_id)
            return pb.ReleaseResponse()

    @asynccontextmanager
    async def _call(self, context: Context) -> AsyncIterator[Deadline]:
        """One call, with an end: a store may hang for longer than anybody waits."""
        remaining_s: float | None = context.time_remaining()
        most_s = MAX_CALL_S if remaining_s is None else min(max(remaining_s - ANSWER_MARGIN_S, 0.0), MAX_CALL_S)
        with self._gate.call():
            try:
                async with asyncio.timeout(most_s):
                    yield Deadline.after(most_s)
            except TimeoutError as error:
                raise CallTimeout("the call's time is over, and the store has not answered") from error

    async def _wait(self, fleet: Fleet, number: int, wait_s: float, deadline: Deadline) -> tuple[bool, pb.FleetState]:
        until = min(deadline, Deadline.after(wait_s), key=lambda one: one.at_s)
        reached, found = await fleet.reached(number, until)
        return reached, convert.write_fleet(found.desired, found.reports)

    def _needed_fleet(self) -> Fleet:
        if self._fleet is None:
            raise FailedPrecondition("this server has no store of versions; set store.url to give it one")
        return self._fleet


def _version(id: str) -> str:
    if not id:
        raise InvalidCall("version", "is empty; name the version")
    _check_texts(version=id)
    return id


def _share(request: pb.LoadRequest) -> float | None:
    if not request.HasField("shadow_share"):
        return None
    if not 0 < request.shadow_share <= 1:
        raise InvalidCall("shadow_share", f"is {request.shadow_share:g}; it must be above 0 and at most 1")
    return request.shadow_share


def _check_change(request: pb.LoadRequest | pb.PromoteRequest | pb.RetireRequest) -> None:
    _check_texts(by=request.by, why=request.why)
    if not request.wait_s >= 0:
        raise InvalidCall("wait_s", f"is {request.wait_s:g}; it must be at least 0")


def _check_texts(**texts: str) -> None:
    for field, text in texts.items():
        if len(text) > MAX_TEXT_CHARACTERS:
            raise InvalidCall(field, f"is {len(text)} characters long; up to {MAX_TEXT_CHARACTERS} are taken")
