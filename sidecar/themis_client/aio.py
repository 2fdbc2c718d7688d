"""The client, for a caller with an event loop of its own. All logic is on this side; client.py only waits for it.

In one process use either AsyncClient on one loop or Client, not both: several loops that run grpc.aio in one process
disturb each other (grpc issue 42357). Where code may meet other users of the package, Client's *_async methods are
safe on any loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from types import TracebackType

import grpc

from themis_client import decode, encode
from themis_client.addresses import Lookup, Target, getaddrinfo
from themis_client.attempts import Observer, unobserved
from themis_client.batches import BatchLimits
from themis_client.calls import (
    CLASSIFY,
    COMPARE,
    DIFFICULTY,
    SCORE,
    AnswerT,
    InputT,
    Kind,
    MessageT,
    OkT,
    OptionsT,
    describe,
)
from themis_client.channels import MAX_MESSAGE_BYTES, Connector
from themis_client.credentials import PathLike, Tls, TokenFile
from themis_client.deadline import Deadline, Runtime
from themis_client.description import Description
from themis_client.dispatch import Dispatcher, Work
from themis_client.errors import ClientClosed, UnknownVersion
from themis_client.failure import Failure
from themis_client.items import (
    ComparisonLike,
    ConversationItemLike,
    DifficultyItem,
    Item,
    ItemLike,
)
from themis_client.options import CompareOptions, ScoreOptions
from themis_client.pinned import PinnedLease
from themis_client.replicas import ReplicaPolicy, Replicas
from themis_client.results import Classifications, Comparisons, Difficulties, Results, Scored, Scores
from themis_client.retry import RetryPolicy
from themis_client.streaming import ScoreStream, StreamSettings
from themis_client.tournament import StandingOrFailure, Tournament
from themis_client.tournament import run as run_tournament
from themis_client.versions import AsyncVersions, HeldLease, LeasePolicy

DEFAULT_TARGET = "localhost:50051"
DEFAULT_TIMEOUT_S = 300.0
DEFAULT_BATCH_ITEMS = 64
"""For servers that do not say how many items a call may hold."""

CURRENT = "current"


class AsyncClient:
    """A judge, wherever its replicas are.

    target: "host:port", "host:port,host:port" or "dns:///name:port" (a headless Service, for instance).
    version: pins a judge version; None pins the server's current one at the first call, for the client's life.
    timeout_s: the default deadline of a call, retries included, in seconds.
    batch_items: the most items of one message; None is what the server allows.
    tls, or gRPC's own credentials: TLS; without either it is plaintext.
    token, or what token_file holds: sent as a bearer token with every call. The file is read again when it changes.
    lease: keeps the pinned version from being retired or unloaded for as long as this client is open; needs servers
    with a store of versions.
    runtime, lookup: time, chance and name resolution, for tests.
    observe: called with every attempt, those that are retried included.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        version: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        replicas: ReplicaPolicy = ReplicaPolicy(),  # noqa: B008 - frozen
        batch_items: int | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        tls: Tls | None = None,
        token_file: PathLike | None = None,
        lease: LeasePolicy | None = None,
        runtime: Runtime = Runtime(),  # noqa: B008 - frozen
        lookup: Lookup = getaddrinfo,
        observe: Observer = unobserved,
    ) -> None:
        where = Target.parse(target)
        authority = f"{where.name}:{where.port}" if where.changes else ""
        self._runtime = runtime
        self._timeout_s = timeout_s
        self._batch_items = batch_items
        file = None if token_file is None else TokenFile(token_file)
        connector = Connector(credentials, token, authority, tls, file)
        self._replicas = Replicas(where, connector, replicas, runtime, lookup)
        self._dispatcher = Dispatcher(self._replicas, retry, runtime, observe)
        self._retry = retry
        self._observe = observe
        self._version = None if version == CURRENT else version
        self._description: Description | None = None
        self._describing = asyncio.Lock()
        self._closed = False
        self._versions = AsyncVersions(self._dispatcher, self._deadline, runtime)
        self._lease = PinnedLease(self._versions, lease)

    @property
    def version(self) -> str | None:
        """The id of the pinned judge version; None before the first call."""
        return self._version

    @property
    def versions(self) -> AsyncVersions:
        """The fleet's versions: what is there, and what is current."""
        return self._versions

    @property
    def lease(self) -> HeldLease | None:
        """The lease on the pinned version; None before the first call, and without `lease`."""
        return self._lease.held

    async def refresh_version(self, *, timeout_s: float | None = None) -> str:
        """Pins the version that is current now, and returns its id. Calls under way keep the old one; its lease is
        given back when the last of them has ended."""
        async with self._describing:
            deadline = self._deadline(timeout_s)
            description = await self._describe(deadline)
            self._version = version = _current(description)
            await self._lease.pin(version, deadline.remaining_s)
            return version

    async def score(
        self,
        items: Iterable[ItemLike],
        *,
        options: ScoreOptions = ScoreOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
    ) -> Scores:
        """Scores items; the results stand in their order, each a Score or a Failure.

        Raises a ThemisError only if nothing could be scored (the servers can't be reached, the version is unknown,
        the options are wrong). An empty list gives an empty list, without a call.
        """
        return await self._run(
            SCORE, items, options.version, timeout_s, lambda version: encode.score_options(options, version)
        )

    def stream(
        self,
        items: Iterable[ItemLike] | AsyncIterable[ItemLike],
        *,
        options: ScoreOptions = ScoreOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
        item_timeout_s: float | None = None,
    ) -> AsyncGenerator[tuple[int, Scored], None]:
        """Scores items as they come and yields (position in `items`, result) as they finish.

        No more items are taken from `items` than the servers' windows hold. timeout_s is the deadline of the whole
        stream, item_timeout_s that of each item from its arrival at the server. Raises DeadlineExceeded if the time
        ran out before `items` ended.
        """
        return self._stream(items, options, self._deadline(timeout_s), item_timeout_s)

    async def compare(
        self,
        comparisons: Iterable[ComparisonLike],
        *,
        options: CompareOptions = CompareOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
    ) -> Comparisons:
        """Compares two responses each; results as in score(), each a Compared or a Failure."""
        return await self._run(
            COMPARE, comparisons, options.version, timeout_s, lambda version: encode.compare_options(options, version)
        )

    async def tournament(
        self,
        groups: Sequence[Sequence[Item]],
        tournament: Tournament = Tournament(),  # noqa: B008 - frozen
        *,
        options: CompareOptions = CompareOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
    ) -> list[list[StandingOrFailure]]:
        """Compares the members of each group with each other; each gets a Standing or a Failure, in their order.

        All comparisons of all groups are one call, and one version judges them. A member of whom any comparison
        failed is a Failure, and so is the only member of a group, and every member of a group whose items differ in
        more than response, key and group. Raises as compare() does.
        """
        return await run_tournament(self, groups, tournament, options=options, timeout_s=timeout_s)

    async def classify(
        self,
        conversations: Iterable[ConversationItemLike],
        *,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> Classifications:
        """Says to which scenario each conversation belongs; each result is a Classified or a Failure."""
        return await self._run(CLASSIFY, conversations, version, timeout_s, lambda found: found)

    async def difficulty(
        self,
        items: Iterable[DifficultyItem],
        *,
        version: str | None = None,
        return_tokens: bool = False,
        timeout_s: float | None = None,
    ) -> Difficulties:
        """Log-likelihoods of answers with and without their prompts; each result is a Difficulty or a Failure."""
        return await self._run(DIFFICULTY, items, version, timeout_s, lambda found: (found, return_tokens))

    async def describe(self, *, timeout_s: float | None = None) -> Description:
        """What a replica judges with, asked anew. Pins nothing."""
        return await self._describe(self._deadline(timeout_s))

    async def disconnect(self) -> None:
        """Closes all channels; the next call opens new ones. What is pinned stays pinned."""
        await self._replicas.close()

    async def close(self) -> None:
        """Closes all channels for good, and gives a lease back. Calls under way fail."""
        await self._lease.close()
        self._closed = True
        await self.disconnect()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _deadline(self, timeout_s: float | None) -> Deadline:
        if self._closed:
            raise ClientClosed("the client is closed")
        return Deadline.after(self._timeout_s if timeout_s is None else timeout_s, self._runtime)

    async def _run(
        self,
        kind: Kind[InputT, MessageT, AnswerT, OkT, OptionsT],
        inputs: Iterable[InputT],
        version: str | None,
        timeout_s: float | None,
        options: Callable[[str], OptionsT],
    ) -> Results[OkT]:
        deadline = self._deadline(timeout_s)
        values = list(inputs)
        if not values:
            return Results(())
        found, limits = await self._handshake(version, deadline)
        jobs = [kind.job(index, value, limits.item_bytes) for index, value in enumerate(values)]
        work = Work(kind.rpc(options(found)), limits, deadline, found)
        with self._lease.using(found):
            await self._dispatcher.run(work, [job for job in jobs if not isinstance(job, Failure)])
        return Results(kind.result(work, job) for job in jobs)

    async def _stream(
        self,
        items: Iterable[ItemLike] | AsyncIterable[ItemLike],
        options: ScoreOptions,
        deadline: Deadline,
        item_timeout_s: float | None,
    ) -> AsyncGenerator[tuple[int, Scored], None]:
        version, limits = await self._handshake(options.version, deadline)
        settings = StreamSettings(
            options=encode.score_options(options, version),
            item_bytes=limits.item_bytes,
            window=self._window(),
            deadline=deadline,
            item_timeout_s=item_timeout_s,
        )
        results = ScoreStream(self._replicas, self._retry, self._runtime, settings, self._observe).results(items)
        with self._lease.using(version):
            async with contextlib.aclosing(results):
                async for result in results:
                    yield result

    def _window(self) -> int:
        described = self._description.limits.stream_window if self._description else 0
        return described or DEFAULT_BATCH_ITEMS

    async def _handshake(self, version: str | None, deadline: Deadline) -> tuple[str, BatchLimits]:
        """The version to ask for, and what a call may hold; asks the server once in the client's life."""
        async with self._describing:
            description = self._description or await self._describe(deadline)
            if not version or version == CURRENT:
                self._version = version = self._version or _current(description)
                await self._lease.pin(version, deadline.remaining_s)  # before its use: it could be gone a moment later
        limits = BatchLimits.of(description.limits, DEFAULT_BATCH_ITEMS, self._batch_items, MAX_MESSAGE_BYTES)
        return version, limits

    async def _describe(self, deadline: Deadline) -> Description:
        self._description = decode.description(await self._dispatcher.ask(describe, deadline))
        return self._description


def _current(description: Description) -> str:
    if not description.current:
        raise UnknownVersion("the server has no current version")
    return description.current
