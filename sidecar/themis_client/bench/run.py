"""One run: connects, warms up, measures, and stops cleanly whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from themis_client.aio import AsyncClient
from themis_client.bench.arrivals import Arrivals
from themis_client.bench.load import Load
from themis_client.bench.log import Entry, Log
from themis_client.bench.meter import Meter
from themis_client.bench.shape import Shape
from themis_client.bench.summary import Spread, Summary, summarise
from themis_client.deadline import Runtime
from themis_client.description import Description
from themis_client.errors import BadRequest, ThemisError
from themis_client.replicas import ReplicaPolicy
from themis_client.retry import RetryPolicy
from themis_client.tasks import cancel

CONNECT_S = 30.0
INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """stopped: why the run ended before its time; empty if it did not. error: the same, where an error did it.
    cut_off: items that were under way then. full: whether the run had as many items as it may keep.
    start_s: when measuring began, on the entries' clock. cpu_share: of one core that this process took;
    late_p99_s: how late its event loop was."""

    target: str
    shape: Shape
    description: Description
    summary: Summary
    entries: Sequence[Entry]
    start_s: float
    error: ThemisError | None
    stopped: str
    cut_off: int
    warm_up_items: int
    full: bool
    cpu_share: float
    late_p99_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """What a display may look at while the run goes on. `phase` is "warming up" or "measuring"."""

    phase: str
    elapsed_s: float
    of_s: float | None
    log: Log
    cpu_share: float


Display = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """make_client: gives an AsyncClient when called with retry=, replicas=, timeout_s= and observe=."""

    target: str
    shape: Shape
    make_client: Callable[..., AsyncClient]
    version: str | None = None
    runtime: Runtime = field(default_factory=Runtime)
    refresh_s: float = 0.5

    async def run(self, stop: asyncio.Future[str], display: Display) -> Outcome:
        """Ends early when `stop` says why. Raises a ThemisError only if nothing was measured before it."""
        log, meter = Log(self.runtime.clock), Meter(self.runtime)
        async with self._clients(log) as clients:
            described = await self._connect(clients)
            arrivals = Arrivals(self.shape, self.runtime.clock, self.runtime.clock())
            load = Load(self.shape, arrivals, log, self.runtime, self.version)
            watching = asyncio.ensure_future(self._watch(log, meter, arrivals, display))
            try:
                error = await self._until_over(load.run(clients), stop, watching)
                ended_s = self.runtime.clock()
            finally:
                await cancel([watching])
        if error is not None and not log.entries:
            raise error
        whole = error is None and not stop.done() and not arrivals.full and self.shape.duration_s is not None
        end_s = arrivals.until_s if whole else ended_s
        start_s = min(arrivals.measured_from_s, end_s)
        late = Spread.of(meter.late_s)
        return Outcome(
            target=self.target,
            shape=self.shape,
            description=described,
            summary=summarise(log.entries, log.warm_up, log.attempts, start_s, end_s),
            entries=log.entries,
            start_s=start_s,
            error=error,
            stopped=f"{type(error).__name__}: {error}" if error else stop.result() if stop.done() else "",
            cut_off=log.cut_off,
            warm_up_items=len(log.warm_up),
            full=arrivals.full,
            cpu_share=meter.cpu_share,
            late_p99_s=late.p99 if late else 0.0,
        )

    @contextlib.asynccontextmanager
    async def _clients(self, log: Log) -> AsyncIterator[list[AsyncClient]]:
        """One per caller, as separate programs would be. Their own bounds must not hide what the shape asks for."""
        retry = RetryPolicy() if self.shape.retries else RetryPolicy(attempts=1)
        replicas = ReplicaPolicy(calls=max(ReplicaPolicy().calls, self.shape.calls_at_a_time))
        async with contextlib.AsyncExitStack() as stack:
            clients = []
            for _ in range(self.shape.callers):
                client = self.make_client(
                    retry=retry, replicas=replicas, timeout_s=self.shape.timeout_s, observe=log.observe
                )
                clients.append(await stack.enter_async_context(client))
            yield clients

    async def _connect(self, clients: Sequence[AsyncClient]) -> Description:
        """What the server says, asked before the run so that no call of it has to. Impatient at first: whoever waits
        wants to know soon that there is no server."""
        async with self.make_client(retry=RetryPolicy(attempts=4)) as first:
            described: Description = await first.describe(timeout_s=CONNECT_S)
        self._check(described)
        await asyncio.gather(*(client.describe(timeout_s=CONNECT_S) for client in clients))
        return described

    def _check(self, described: Description) -> None:
        known = [scenario.id for scenario in described.scenarios]
        if self.shape.scenario and known and self.shape.scenario not in known:
            raise BadRequest(f"no scenario {self.shape.scenario!r} here; the server knows {', '.join(known)}")
        limit = described.limits.max_items
        if limit and self.shape.items_per_call > limit and not self.shape.stream:
            raise BadRequest(f"{self.shape.items_per_call} items per call; the server takes {limit}")

    async def _until_over(
        self, load: Coroutine[Any, Any, None], stop: asyncio.Future[str], watching: asyncio.Future[None]
    ) -> ThemisError | None:
        """What ended the load before its time, if an error did."""
        loading = asyncio.ensure_future(load)
        try:
            done, _ = await asyncio.wait((loading, stop, watching), return_when=asyncio.FIRST_COMPLETED)
            if watching in done:
                watching.result()
            if loading in done:
                loading.result()
        except ThemisError as error:
            return error
        finally:
            await cancel([loading])
        return None

    async def _watch(self, log: Log, meter: Meter, arrivals: Arrivals, display: Display) -> None:
        """Says when the warm-up is over, and keeps the display and the meter going until it is cancelled."""
        clock, begun_s = self.runtime.clock, self.runtime.clock()
        ticking = asyncio.ensure_future(meter.run())
        try:
            meter.start()
            while (left_s := arrivals.measured_from_s - clock()) > 0:
                display(Progress("warming up", clock() - begun_s, self.shape.warmup_s, log, meter.cpu_share))
                await self.runtime.sleep(min(self.refresh_s, left_s))
            log.measure()
            meter.start()
            while True:
                elapsed_s = clock() - arrivals.measured_from_s
                display(Progress("measuring", elapsed_s, self.shape.duration_s, log, meter.cpu_share))
                await self.runtime.sleep(self.refresh_s)
        finally:
            await cancel([ticking])
