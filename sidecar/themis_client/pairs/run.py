"""Judges row after row, several at a time, and keeps what became of them in the order of the input."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from themis_client.errors import BadRequest
from themis_client.failure import Failure
from themis_client.pairs.journal import Renewal
from themis_client.pairs.prompt import Prompt
from themis_client.pairs.record import Failed, Record
from themis_client.pairs.source import Row
from themis_client.tasks import cancel


@dataclass(frozen=True, slots=True)
class Under:
    """A row under way. new: the journal held nothing of it, and holds all that came before it."""

    found: asyncio.Future[Record]
    new: bool


class Run:
    """judge: what becomes of a prompt with its row's number; it raises where going on is pointless. window: prompts
    under way at a time. done: called after each row."""

    def __init__(
        self,
        judge: Callable[[Prompt, int], Awaitable[Record]],
        window: int,
        say: Callable[[str], object],
        done: Callable[[], None],
    ) -> None:
        self._judge = judge
        self._window = window
        self._say = say
        self._done = done

    async def judge_all(self, rows: Iterable[Row], before: Iterator[Record], journal: Renewal) -> None:
        """before: what an earlier run left. Of it only those rows are judged again that a later try may cure. What
        was finished in order when this raises stands in the journal."""
        under: deque[Under] = deque()
        try:
            for row in rows:
                under.append(self._start(row, next(before, None)))
                while len(under) >= self._window or (under and under[0].found.done()):
                    await self._settle(under, journal)
            while under:
                await self._settle(under, journal)
            if next(before, None) is not None:
                raise BadRequest("the journal holds more rows than the input")
            journal.publish()
        finally:
            await cancel([one.found for one in under])
            # What else went wrong is no news after the first, and is not to be told as unseen.
            await asyncio.gather(*(one.found for one in under), return_exceptions=True)

    def _start(self, row: Row, before: Record | None) -> Under:
        if before is not None and before.line != row.number:
            raise BadRequest(f"the journal tells of line {before.line} where the input has line {row.number}")
        if before is not None and not before.retryable:
            return Under(_done(before), new=False)
        if isinstance(row.item, Failure):
            self._say(row.item.error)
            return Under(_done(Failed.of_row(row.number, row.item)), new=before is None)
        return Under(asyncio.ensure_future(self._judge(row.item, row.number)), new=before is None)

    async def _settle(self, under: deque[Under], journal: Renewal) -> None:
        first = under[0]
        entry = await first.found
        under.popleft()
        if first.new:
            journal.publish()
        journal.append(entry)
        self._done()


def _done(entry: Record) -> asyncio.Future[Record]:
    found: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
    found.set_result(entry)
    return found
