"""The client for callers without an event loop. It waits for AsyncClient and does nothing else.

Safe to share between threads, to pickle into another process, and to use on both sides of a fork (see loop.py).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc

from themis_client.aio import CURRENT, DEFAULT_TARGET, DEFAULT_TIMEOUT_S, AsyncClient
from themis_client.credentials import PathLike, Tls
from themis_client.description import Description
from themis_client.items import ComparisonLike, ConversationItemLike, DifficultyItem, Item, ItemLike
from themis_client.loop import PROCESS_LOOP
from themis_client.options import CompareOptions, ScoreOptions
from themis_client.pull import Pull
from themis_client.replicas import ReplicaPolicy
from themis_client.results import Classifications, Comparisons, Difficulties, Scored, Scores
from themis_client.retry import RetryPolicy
from themis_client.session import Session
from themis_client.tournament import StandingOrFailure, Tournament
from themis_client.versions import AsyncVersions, LeasePolicy

T = TypeVar("T")


class Client:
    """A judge, wherever its replicas are. Parameters and methods as in AsyncClient, but they block.

    score_async, compare_async and tournament_async may be awaited on any event loop: the work is done on this package's
    own one.
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
    ) -> None:
        make = functools.partial(
            AsyncClient,
            target,
            timeout_s=timeout_s,
            retry=retry,
            replicas=replicas,
            batch_items=batch_items,
            credentials=credentials,
            token=token,
            tls=tls,
            token_file=token_file,
            lease=lease,
        )
        self._session = Session(make, None if version == CURRENT else version, timeout_s)

    @property
    def version(self) -> str | None:
        """The id of the pinned judge version; None before the first call."""
        return self._session.version

    def manage(self, work: Callable[[AsyncVersions], Coroutine[Any, Any, T]], *, timeout_s: float | None = None) -> T:
        """Does something with the fleet's versions: `client.manage(lambda versions: versions.promote(id))`.
        timeout_s: for all of it; the client's own where it is None, so that work which waits longer has to be given
        one: `client.manage(lambda versions: versions.promote(id, wait_s=600), timeout_s=630)`."""
        return self._wait(lambda client: work(client.versions), timeout_s)

    def refresh_version(self, *, timeout_s: float | None = None) -> str:
        """Pins the version that is current now, and returns its id. See AsyncClient.refresh_version."""
        return self._wait(lambda client: client.refresh_version(timeout_s=timeout_s), timeout_s)

    def score(
        self,
        items: Iterable[ItemLike],
        *,
        options: ScoreOptions = ScoreOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
    ) -> Scores:
        """Scores items; the results stand in their order, each a Score or a Failure. See AsyncClient.score."""
        values = list(items)  # here, and not on the loop: it may be a generator of the caller's
        return self._wait(lambda client: client.score(values, options=options, timeout_s=timeout_s), timeout_s)

    async def score_async(
        self,
        items: Iterable[ItemLike],
        *,
        options: ScoreOptions = ScoreOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
    ) -> Scores:
        """score(), awaited on any event loop."""
        values = list(items)
        call = self._session.submit(lambda client: client.score(values, options=options, timeout_s=timeout_s))
        return await asyncio.wrap_future(call)

    def stream(
        self,
        items: Iterable[ItemLike],
        *,
        options: ScoreOptions = ScoreOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
        item_timeout_s: float | None = None,
    ) -> Generator[tuple[int, Scored], None, None]:
        """Scores items as they come and yields (position in `items`, result) as they finish.

        `items` is iterated in the calling thread, some items ahead of the results. See AsyncClient.stream.
        """
        pull = Pull[ItemLike, tuple[int, Scored]](PROCESS_LOOP)

        async def drain(client: AsyncClient) -> None:
            await pull.drain(
                client.stream(pull.taken(), options=options, timeout_s=timeout_s, item_timeout_s=item_timeout_s)
            )

        return pull.results(items, lambda: self._session.submit(drain))

    def compare(
        self,
        comparisons: Iterable[ComparisonLike],
        *,
        options: CompareOptions = CompareOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
    ) -> Comparisons:
        """Compares two responses each; each result is a Compared or a Failure."""
        values = list(comparisons)
        return self._wait(lambda client: client.compare(values, options=options, timeout_s=timeout_s), timeout_s)

    async def compare_async(
        self,
        comparisons: Iterable[ComparisonLike],
        *,
        options: CompareOptions = CompareOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
    ) -> Comparisons:
        """compare(), awaited on any event loop."""
        values = list(comparisons)
        call = self._session.submit(lambda client: client.compare(values, options=options, timeout_s=timeout_s))
        return await asyncio.wrap_future(call)

    def tournament(
        self,
        groups: Sequence[Sequence[Item]],
        tournament: Tournament = Tournament(),  # noqa: B008 - frozen
        *,
        options: CompareOptions = CompareOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
    ) -> list[list[StandingOrFailure]]:
        """Compares the members of each group with each other. See AsyncClient.tournament."""
        return self._wait(
            lambda client: client.tournament(groups, tournament, options=options, timeout_s=timeout_s), timeout_s
        )

    async def tournament_async(
        self,
        groups: Sequence[Sequence[Item]],
        tournament: Tournament = Tournament(),  # noqa: B008 - frozen
        *,
        options: CompareOptions = CompareOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
    ) -> list[list[StandingOrFailure]]:
        """tournament(), awaited on any event loop."""
        call = self._session.submit(
            lambda client: client.tournament(groups, tournament, options=options, timeout_s=timeout_s)
        )
        return await asyncio.wrap_future(call)

    def classify(
        self,
        conversations: Iterable[ConversationItemLike],
        *,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> Classifications:
        """Says to which scenario each conversation belongs; each result is a Classified or a Failure."""
        values = list(conversations)
        return self._wait(lambda client: client.classify(values, version=version, timeout_s=timeout_s), timeout_s)

    def difficulty(
        self,
        items: Iterable[DifficultyItem],
        *,
        version: str | None = None,
        return_tokens: bool = False,
        timeout_s: float | None = None,
    ) -> Difficulties:
        """Log-likelihoods of answers with and without their prompts; each result is a Difficulty or a Failure."""
        values = list(items)
        return self._wait(
            lambda client: client.difficulty(values, version=version, return_tokens=return_tokens, timeout_s=timeout_s),
            timeout_s,
        )

    def describe(self, *, timeout_s: float | None = None) -> Description:
        """What a replica judges with, asked anew. Pins nothing."""
        return self._wait(lambda client: client.describe(timeout_s=timeout_s), timeout_s)

    def close(self) -> None:
        """Closes all channels for good. Calls under way fail."""
        self._session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, make: Callable[[AsyncClient], Coroutine[Any, Any, T]], timeout_s: float | None) -> T:
        return self._session.wait(make, timeout_s)
