"""The callers of a run: each takes a call when it is free, sends it when it is due, and notes what came back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from themis_client.aio import AsyncClient
from themis_client.bench.arrivals import Arrival, Arrivals
from themis_client.bench.log import NOT_SENT, Entry, Log, entry
from themis_client.bench.shape import Shape
from themis_client.bench.texts import Texts
from themis_client.deadline import Runtime
from themis_client.errors import ThemisError
from themis_client.items import Item
from themis_client.options import MODES, ScoreOptions
from themis_client.rpc_errors import ITEM_STATUSES
from themis_client.tasks import all_or_cancel

MAX_STREAM_S = 86_400.0
"""The longest that streams of a run without a stated end may take."""


@dataclass(frozen=True, slots=True)
class _Sent:
    due_s: float
    sent_s: float
    measured: bool


@dataclass(slots=True)
class Load:
    """The work of all callers."""

    shape: Shape
    arrivals: Arrivals
    log: Log
    runtime: Runtime
    version: str | None = None
    texts: Texts = field(init=False)

    def __post_init__(self) -> None:
        self.texts = Texts(self.shape)

    async def run(self, clients: Sequence[AsyncClient]) -> None:
        """Returns when all calls were answered. Raises what makes going on pointless: bad options, no permission."""
        one = self._stream if self.shape.stream else self._calls
        width = 1 if self.shape.stream else self.shape.calls_at_a_time
        await all_or_cancel(one(client) for client in clients for _ in range(width))

    # ------------------------------------------------------------------------------------ one call after the other

    async def _calls(self, client: AsyncClient) -> None:
        while (arrival := self.arrivals.take()) is not None:
            items = [self.texts.item(index) for index in arrival.indices]
            due_s, sent_s = await self._turn(arrival)
            left_s = due_s + self.shape.timeout_s - sent_s
            if left_s <= 0:
                self._not_sent(arrival, sent_s)
                continue
            self.log.in_flight += len(items)
            try:
                results = await client.score(items, options=self._options(), timeout_s=left_s)
                found = [entry(due_s, sent_s, self.runtime.clock(), result) for result in results]
            except ThemisError as error:
                found = [self._lost(due_s, sent_s, error)] * len(items)
            except asyncio.CancelledError:
                self.log.cut_off += len(items)
                raise
            finally:
                self.log.in_flight -= len(items)
            for one in found:
                self.log.add(one, arrival.measured)

    def _lost(self, due_s: float, sent_s: float, error: ThemisError) -> Entry:
        """Of each item of a call that failed as a whole. Raises the error where it concerns every call."""
        status = ITEM_STATUSES.get(type(error))
        if status is None:
            raise error
        return Entry(due_s, sent_s, self.runtime.clock(), status.name, "")

    def _not_sent(self, arrival: Arrival, now_s: float) -> None:
        for _ in arrival.indices:
            self.log.add(Entry(arrival.due_s, now_s, now_s, NOT_SENT, ""), arrival.measured)

    # ---------------------------------------------------------------------------------------- one stream per caller

    async def _stream(self, client: AsyncClient) -> None:
        sent: dict[int, _Sent] = {}
        room = asyncio.Semaphore(self.shape.in_flight if self.shape.rate else self.shape.items_per_call)
        # No time-out of single items: with one, a stream that the server ends at its own limit fails what it holds.
        timeout_s = min(self.arrivals.until_s - self.runtime.clock() + self.shape.timeout_s, MAX_STREAM_S)
        results = client.stream(self._fed(sent, room), options=self._options(), timeout_s=timeout_s)
        try:
            async for position, result in results:
                one = sent.pop(position)
                self.log.in_flight -= 1
                room.release()
                self.log.add(entry(one.due_s, one.sent_s, self.runtime.clock(), result), one.measured)
        finally:
            self.log.in_flight -= len(sent)
            self.log.cut_off += len(sent)
            await results.aclose()

    async def _fed(self, sent: dict[int, _Sent], room: asyncio.Semaphore) -> AsyncIterator[Item]:
        """Items as they are due. `room` bounds those that are under way; `sent` gets each by its position."""
        position = 0
        await room.acquire()
        while (arrival := self.arrivals.take()) is not None:
            item = self.texts.item(arrival.first)
            due_s, sent_s = await self._turn(arrival)
            if sent_s >= due_s + self.shape.timeout_s:
                self._not_sent(arrival, sent_s)
                continue
            sent[position] = _Sent(due_s, sent_s, arrival.measured)
            self.log.in_flight += 1
            yield item
            position += 1
            await room.acquire()

    # ------------------------------------------------------------------------------------------------------- parts

    async def _turn(self, arrival: Arrival) -> tuple[float, float]:
        """Waits until a call is due. When it was, and when it is: the same in a closed loop, which owes no times."""
        wait_s = arrival.due_s - self.runtime.clock()
        if wait_s > 0:
            await self.runtime.sleep(wait_s)
        else:  # thousands in a row may not be sent, or not be fit to be: time-outs and Ctrl-C must get their turn
            await asyncio.sleep(0)
        now_s = self.runtime.clock()
        return (now_s if self.shape.rate is None else arrival.due_s), now_s

    def _options(self) -> ScoreOptions:
        return ScoreOptions(mode=MODES[self.shape.mode](), version=self.version)
