"""What LLM tests run as processes of their own: members that share limits and a budget, and members that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.unit.pipeline.llm_parts import asked, ended, near, put_together
from themis_judge.store.local import LocalFiles
from themis_pipeline.llm.calls import CallKey
from themis_pipeline.llm.endpoints import RateLimit
from themis_pipeline.llm.journal import Entry, FileJournal


class Fatal:
    """A journal at which its process is killed: before or after it writes the call with that index."""

    def __init__(self, journal: FileJournal, when: str, index: int) -> None:
        self._journal, self._when, self._index = journal, when, index

    def find(self, key: CallKey, digest: str) -> Entry | None:
        return self._journal.find(key, digest)

    def record(self, entry: Entry) -> Entry:
        if (self._when, self._index) == ("before", entry.index):
            os.kill(os.getpid(), signal.SIGKILL)
        stands = self._journal.record(entry)
        if (self._when, self._index) == ("after", entry.index):
            os.kill(os.getpid(), signal.SIGKILL)
        return stands


async def work(folder: str, url: str, when: str, fatal: str, count: str) -> None:
    """Makes calls 0 to count - 1, and prints what they took; is killed at the call `fatal`."""
    journal = Fatal(FileJournal(LocalFiles(Path(folder))), when, int(fatal))
    async with put_together(Path(folder), near(url), slice_micros=500, journal=journal) as parts:
        texts = [(await parts.llm.complete(asked(), parts.context(index=index))).text for index in range(int(count))]
    _say({"texts": texts, "paid": parts.totals.paid, "from_journal": parts.totals.from_journal})


async def spend(folder: str, url: str, name: str, total_micros: str, slice_micros: str) -> None:
    """Calls until the budget is spent, starting with the other members."""
    async with put_together(
        Path(folder), near(url), total_micros=int(total_micros), slice_micros=int(slice_micros)
    ) as parts:
        parts.stage = name
        _wait()
        ends = [await ended(parts, index) for index in range(500)]
    _say({"ends": ends, "cost_micros": parts.totals.cost_micros})


async def limited(folder: str, url: str, name: str, requests_per_minute: str) -> None:
    """Calls until this window has no more, then until the next one has no more."""
    limit = RateLimit(requests_per_minute=int(requests_per_minute), window_s=10.0)
    windows = []
    async with put_together(Path(folder), near(url, limit=limit)) as parts:
        parts.stage = name
        for window in range(2):
            _wait()
            windows.append([await ended(parts, 1000 * window + index) for index in range(100)])
            _say(windows[-1])
            parts.moments.now_s += 10


def _wait() -> None:
    _say("ready")
    sys.stdin.readline()


def _say(told: object) -> None:
    print(json.dumps(told), flush=True)  # noqa: T201


if __name__ == "__main__":
    COMMANDS: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"work": work, "spend": spend, "limited": limited}
    asyncio.run(COMMANDS[sys.argv[1]](*sys.argv[2:]))
