"""Judge versions, for whoever manages a fleet, and leases for whoever pins one of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from themis_client import decode_versions as decode
from themis_client.deadline import Deadline, Runtime
from themis_client.dispatch import Dispatcher, Metadata
from themis_client.errors import ThemisError, Unavailable
from themis_client.fleet import FleetState, Lease, Listing
from themis_client.replicas import Replica
from themis_client.tasks import cancel
from themis_proto.v1 import versions_pb2 as pb
from themis_proto.v1.versions_pb2_grpc import VersionServiceStub

if TYPE_CHECKING:
    from themis_proto.v1.versions_pb2_grpc import VersionServiceAsyncStub

ReplyT = TypeVar("ReplyT")

RELEASE_S = 5.0
"""How long the end of a lease may take; one that can't be given back ends by itself."""
RENEWALS = 3
"""How often a lease is renewed in its life: two may fail."""
MARGIN_S = 30.0
"""For a call that waits: the server's answer comes after the wait."""
CANCELLED = "the lease is renewed no more: its task was cancelled"


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """holder: who needs the version, for people to read; a run's name, for instance. ttl_s: how long a lease outlives
    a holder that dies, in seconds."""

    holder: str
    ttl_s: float = 600.0


class HeldLease:
    """A lease that is renewed until `release`, also as `async with`. lost: why it could not be kept; None while it
    lives. What its version is then used for goes on as long as a server holds it."""

    def __init__(self, versions: AsyncVersions, lease: Lease, policy: LeasePolicy, runtime: Runtime) -> None:
        self._versions = versions
        self._lease = lease
        self._policy = policy
        self._runtime = runtime
        self.lost: ThemisError | None = None
        self._released = False
        self._renewal = asyncio.create_task(self._keep())
        self._renewal.add_done_callback(self._ended)

    @property
    def lease(self) -> Lease:
        return self._lease

    async def release(self) -> None:
        """Ends it. Where no server can be reached it ends by itself."""
        self._released = True
        await cancel([self._renewal])
        with contextlib.suppress(ThemisError):
            await self._versions.release(self._lease.id, timeout_s=RELEASE_S)

    async def __aenter__(self) -> HeldLease:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    async def _keep(self) -> None:
        while True:
            await self._runtime.sleep(self._policy.ttl_s / RENEWALS)
            self.lost = await self._attempt()  # the next renewal may cure it, or a lease of one's own

    async def _attempt(self) -> ThemisError | None:
        """Why a renewal failed. It runs in a task of its own: closing channels cancels what is under way on them, and
        that must not pass for the end of this."""
        renewal = asyncio.create_task(self._renew())
        try:
            await asyncio.wait([renewal])
        finally:
            await cancel([renewal])
        if renewal.cancelled():
            return Unavailable("the channel was closed while the lease was being renewed")
        try:
            renewal.result()
        except ThemisError as error:
            return error
        return None

    def _ended(self, renewal: asyncio.Task[None]) -> None:
        """Nobody waits for the renewal's end: what nobody asked for is told here."""
        if self._released:
            return
        why = None if renewal.cancelled() else renewal.exception()
        self.lost = Unavailable(f"the lease is renewed no more: {type(why).__name__}: {why}" if why else CANCELLED)
        self.lost.__cause__ = why

    async def _renew(self) -> None:
        ttl_s = self._policy.ttl_s
        self._lease = await self._versions.renew(self._lease, ttl_s=ttl_s, timeout_s=ttl_s / RENEWALS)


class AsyncVersions:
    """Calls any replica: they all write and read the same store. Raises ThemisError: UnknownVersion, BadRequest where
    the state of things doesn't allow it (the text says what has to change), Unavailable, and so on."""

    def __init__(self, dispatcher: Dispatcher, deadline: Callable[[float | None], Deadline], runtime: Runtime) -> None:
        self._dispatcher = dispatcher
        self._deadline = deadline
        self._runtime = runtime

    async def list(self, *, timeout_s: float | None = None) -> Listing:
        """What is in the store, what the fleet should hold, and what each replica holds."""

        async def call(stub: VersionServiceAsyncStub, left_s: float, metadata: Metadata) -> pb.ListResponse:
            return await stub.List(pb.ListRequest(), timeout=left_s, metadata=metadata)

        return decode.listing(await self._ask(call, timeout_s))

    async def promote(
        self,
        version: str,
        *,
        expected_current: str = "",
        force: bool = False,
        by: str = "",
        why: str = "",
        wait_s: float = 0.0,
        timeout_s: float | None = None,
    ) -> FleetState:
        """Makes a version current, and waits up to wait_s for the replicas to follow."""
        request = pb.PromoteRequest(
            version=version, expected_current=expected_current, force=force, by=by, why=why, wait_s=wait_s
        )

        async def call(stub: VersionServiceAsyncStub, left_s: float, metadata: Metadata) -> pb.PromoteResponse:
            return await stub.Promote(request, timeout=left_s, metadata=metadata)

        answer = await self._ask(call, _with_wait(timeout_s, wait_s))
        return decode.fleet(answer.fleet, answer.reached)

    async def load(
        self,
        version: str,
        *,
        shadow_share: float | None = None,
        by: str = "",
        why: str = "",
        wait_s: float = 0.0,
        timeout_s: float | None = None,
    ) -> FleetState:
        """Makes a version resident beside the current one; with shadow_share it scores that share of live items."""
        request = pb.LoadRequest(version=version, shadow_share=shadow_share, by=by, why=why, wait_s=wait_s)
        return await self._load(request, timeout_s)

    async def stop_shadow(
        self, *, by: str = "", why: str = "", wait_s: float = 0.0, timeout_s: float | None = None
    ) -> FleetState:
        """Ends what runs in shadow, and unloads it."""
        return await self._load(pb.LoadRequest(stop_shadow=True, by=by, why=why, wait_s=wait_s), timeout_s)

    async def retire(
        self,
        version: str,
        *,
        unload_only: bool = False,
        by: str = "",
        why: str = "",
        wait_s: float = 0.0,
        timeout_s: float | None = None,
    ) -> FleetState:
        """Takes a version out of the fleet and, unless unload_only, for good out of the store."""
        request = pb.RetireRequest(version=version, unload_only=unload_only, by=by, why=why, wait_s=wait_s)

        async def call(stub: VersionServiceAsyncStub, left_s: float, metadata: Metadata) -> pb.RetireResponse:
            return await stub.Retire(request, timeout=left_s, metadata=metadata)

        answer = await self._ask(call, _with_wait(timeout_s, wait_s))
        return decode.fleet(answer.fleet, answer.reached)

    async def hold(self, version: str, policy: LeasePolicy, *, timeout_s: float | None = None) -> HeldLease:
        """A lease on a version that is renewed until it is released."""
        lease = await self.acquire(version, policy.holder, ttl_s=policy.ttl_s, timeout_s=timeout_s)
        return HeldLease(self, lease, policy, self._runtime)

    async def acquire(self, version: str, holder: str, *, ttl_s: float, timeout_s: float | None = None) -> Lease:
        """A lease that nobody renews: it ends after ttl_s seconds."""
        return await self._hold(pb.HoldRequest(version=version, holder=holder, ttl_s=ttl_s), timeout_s)

    async def renew(self, lease: Lease, *, ttl_s: float, timeout_s: float | None = None) -> Lease:
        """The lease, which lives for ttl_s seconds from now on. Raises UnknownVersion where it ended and its version
        was retired since."""
        request = pb.HoldRequest(version=lease.version, holder=lease.holder, ttl_s=ttl_s, lease_id=lease.id)
        return await self._hold(request, timeout_s)

    async def release(self, lease_id: str, *, timeout_s: float | None = None) -> None:
        """Ends a lease; one that has ended already is no error."""

        async def call(stub: VersionServiceAsyncStub, left_s: float, metadata: Metadata) -> pb.ReleaseResponse:
            return await stub.Release(pb.ReleaseRequest(lease_id=lease_id), timeout=left_s, metadata=metadata)

        await self._ask(call, timeout_s)

    async def _load(self, request: pb.LoadRequest, timeout_s: float | None) -> FleetState:
        async def call(stub: VersionServiceAsyncStub, left_s: float, metadata: Metadata) -> pb.LoadResponse:
            return await stub.Load(request, timeout=left_s, metadata=metadata)

        answer = await self._ask(call, _with_wait(timeout_s, request.wait_s))
        return decode.fleet(answer.fleet, answer.reached)

    async def _hold(self, request: pb.HoldRequest, timeout_s: float | None) -> Lease:
        async def call(stub: VersionServiceAsyncStub, left_s: float, metadata: Metadata) -> pb.HoldResponse:
            return await stub.Hold(request, timeout=left_s, metadata=metadata)

        return decode.lease((await self._ask(call, timeout_s)).lease)

    async def _ask(
        self, call: Callable[[VersionServiceAsyncStub, float, Metadata], Awaitable[ReplyT]], timeout_s: float | None
    ) -> ReplyT:
        async def send(replica: Replica, left_s: float, metadata: Metadata) -> ReplyT:
            stub: VersionServiceAsyncStub = VersionServiceStub(replica.channel)  # type: ignore[assignment]
            return await call(stub, left_s, metadata)

        return await self._dispatcher.ask(send, self._deadline(timeout_s))


def _with_wait(timeout_s: float | None, wait_s: float) -> float | None:
    """Without a deadline of its own a call that waits gets one that covers the wait."""
    return wait_s + MARGIN_S if timeout_s is None and wait_s else timeout_s
