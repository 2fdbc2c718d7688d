"""Judges row after row, several at a time, and keeps what became of them in the order of the input."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from themis_client.errors import BadRequest, ServerFailed
from themis_client.failure import Failure
from themis_client.pairs.journal import Renewal
from themis_client.pairs.prompt import Prompt
from themis_client.pairs.record import Failed, Record
from themis_client.pairs.source import Row
from themis_client.tasks import cancel

WINDOW_PREFILLS = 8
"""For each prompt of the window: with more the last one of many comparisons would wait longer than its call may."""
MOST_LOST = 20
"""Rows in a row."""


class Judge(Protocol):
    def cost(self, prompt: Prompt) -> int:
        """Prefills that it takes; 0 where there is nothing to ask."""
        ...

    async def record(self, prompt: Prompt, line: int) -> Record:
        """What becomes of a row. Raises where going on is pointless."""
        ...


@dataclass(frozen=True, slots=True)
class Under:
    """A row under way. before: what the journal held of it; where that's nothing it holds all that came before.
    cost: prefills, 0 where the judge isn't asked."""

    found: asyncio.Future[Record]
    before: Record | None
    cost: int = 0


class Run:
    """window: prompts under way at a time; another one is begun only while they come to less than WINDOW_PREFILLS
    times as many prefills. done: called after each row."""

    def __init__(self, judge: Judge, window: int, say: Callable[[str], object], done: Callable[[], None]) -> None:
        self._judge = judge
        self._window = window
        self._say = say
        self._done = done
        self._lost = 0

    async def judge_all(self, rows: Iterable[Row], before: Iterator[Record], journal: Renewal) -> None:
        """before: what an earlier run left. Of it only those rows are judged again that a later try may cure. What
        was finished in order when this raises stands in the journal, and so does what the earlier run left. Raises
        ServerFailed if MOST_LOST rows in a row came to nothing."""
        under: deque[Under] = deque()
        try:
            for row in rows:
                under.append(self._start(row, next(before, None)))
                while under and (self._full(under) or under[0].found.done()):
                    await self._settle(under, before, journal)
            while under:
                await self._settle(under, before, journal)
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
            return Under(_done(before), before)
        if isinstance(row.item, Failure):
            self._say(row.item.error)
            return Under(_done(Failed.of_row(row.number, row.item)), before)
        found = asyncio.ensure_future(self._judge.record(row.item, row.number))
        return Under(found, before, self._judge.cost(row.item))

    def _full(self, under: deque[Under]) -> bool:
        prefills = sum(one.cost for one in under if not one.found.done())
        return len(under) >= self._window or prefills >= self._window * WINDOW_PREFILLS

    async def _settle(self, under: deque[Under], before: Iterator[Record], journal: Renewal) -> None:
        try:
            entry = await under[0].found
        except BaseException:
            _keep(under, before, journal)
            raise
        first = under.popleft()
        if first.before is None:
            journal.publish()
        journal.append(entry)
        self._done()
        self._count(first, entry)

    def _count(self, one: Under, entry: Record) -> None:
        # Rows that are tried again don't count: no run would ever get past MOST_LOST of them that can't be cured.
        if one.before is not None or not one.cost:
            return
        if not isinstance(entry, Failed) or (entry.responses and not entry.retryable):
            self._lost = 0
            return
        self._lost += 1
        if self._lost == MOST_LOST:
            told = f"the last one, line {entry.line}, with {entry.status.name}: {entry.error}"
            raise ServerFailed(f"{MOST_LOST} prompts in a row failed, {told}")


def _keep(under: Iterable[Under], before: Iterator[Record], journal: Renewal) -> None:
    """At a stop among rows that an earlier run left: what was cured is taken, and the rest as it was."""
    for one in under:
        entry = _ended(one.found) or one.before
        if entry is None:
            break
        journal.append(entry)
    for entry in before:
        journal.append(entry)
    if not journal.empty:
        journal.publish()


def _ended(found: asyncio.Future[Record]) -> Record | None:
    return None if not found.done() or found.cancelled() or found.exception() is not None else found.result()


def _done(entry: Record) -> asyncio.Future[Record]:
    found: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
    found.set_result(entry)
    return found
