"""A version on trial: it scores a share of live items after they were answered, and its ratings are only compared."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from dataclasses import dataclass, replace

from themis_judge.engines.base import Deadline
from themis_judge.items import Item, Options, RatingMode, Result, Status
from themis_judge.judge import Judge
from themis_sidecar.admission import Admission
from themis_sidecar.versions.residents import Resident

ITEM_S = 60.0  # the longest that one item may take in the shadow; its caller waits for none of it
_DIGEST_RANGE = 2**64


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a shadow came to since it began; `same` and `difference` are sums over the `compared` items."""

    version: str
    compared: int = 0
    same: int = 0
    difference: float = 0.0
    dropped: int = 0
    failed: int = 0

    @property
    def same_rating_share(self) -> float | None:
        """None where nothing was compared."""
        return self.same / self.compared if self.compared else None

    @property
    def mean_absolute_difference(self) -> float | None:
        """Of expected ratings; None where nothing was compared."""
        return self.difference / self.compared if self.compared else None


@dataclass(frozen=True, slots=True)
class ShadowBounds:
    """waiting: items that may wait; queue_tokens: the most live work in the queue beside which the shadow scores."""

    waiting: int
    queue_tokens: float


class Shadow:
    """One item at a time, never in anybody's way: with live work in the queue items wait, and then get dropped."""

    def __init__(self, admission: Admission, bounds: ShadowBounds) -> None:
        self._admission = admission
        self._bounds = bounds
        self._resident: Resident | None = None
        self._judge: Judge | None = None
        self._share = 0.0
        self._agreement: Agreement | None = None
        self._waiting: deque[tuple[Item, Options, Result]] = deque()
        self._work: asyncio.Task[None] | None = None

    @property
    def agreement(self) -> Agreement | None:
        """None where nothing runs in shadow."""
        return self._agreement

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def working(self) -> bool:
        return self._work is not None and not self._work.done()

    def start(self, resident: Resident, share: float) -> None:
        """From now on `resident` scores this share of the items. Its figures begin anew where it's another version."""
        if self._resident is not resident:
            self.stop()
            self._resident, self._agreement = resident, Agreement(resident.id)
            self._judge = resident.judge.background()
        self._share = share

    def stop(self) -> None:
        """Drops what waits, and the figures."""
        if self._work is not None:
            self._work.cancel()
        self._resident, self._judge, self._agreement, self._work = None, None, None, None
        self._waiting.clear()

    def offer(self, item: Item, options: Options, result: Result) -> None:
        """Takes note of an answered item. Never waits and never raises for the item's sake."""
        if self._agreement is None or not _comparable(item, options, result) or _draw(item) >= self._share:
            return
        if len(self._waiting) >= self._bounds.waiting or not self._room():
            self._count(dropped=1)
            return
        self._waiting.append((item, options, result))
        if not self.working:
            self._work = asyncio.create_task(self._run())

    def _room(self) -> bool:
        return self._admission.queued_tokens <= self._bounds.queue_tokens

    async def _run(self) -> None:
        while self._waiting and self._judge is not None:
            item, options, live = self._waiting.popleft()
            if not self._room():  # live work came in between
                self._count(dropped=1)
                continue
            plain = replace(options, return_prompt=False)
            found = await self._judge.score_one(item, plain, Deadline.after(ITEM_S))
            self._compare(live, found)

    def _compare(self, live: Result, found: Result) -> None:
        if found.status is not Status.OK or found.verdict is None or live.verdict is None:
            self._count(failed=1)
            return
        ours, theirs = live.verdict.rating, found.verdict.rating
        self._count(
            compared=1,
            same=int(ours.chosen == theirs.chosen),
            difference=abs(ours.expected - theirs.expected),
        )

    def _count(
        self, compared: int = 0, same: int = 0, difference: float = 0.0, dropped: int = 0, failed: int = 0
    ) -> None:
        known = self._agreement
        if known is not None:
            self._agreement = Agreement(
                known.version,
                known.compared + compared,
                known.same + same,
                known.difference + difference,
                known.dropped + dropped,
                known.failed + failed,
            )


def _comparable(item: Item, options: Options, result: Result) -> bool:
    """On one scale and in the mode that costs one prefill: a mean over several scales would mean nothing."""
    rated = result.status is Status.OK and result.verdict is not None
    return rated and item.rubric is None and isinstance(options.mode, RatingMode)


def _draw(item: Item) -> float:
    """In [0, 1), the same for equal items on every replica."""
    content = repr((item.messages, item.response, item.reference, item.scenario)).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / _DIGEST_RANGE
