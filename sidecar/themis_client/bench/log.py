"""What came of a run, item by item and attempt by attempt, as it happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from themis_client.attempts import Attempt
from themis_client.failure import RESENT, Failure, Status
from themis_client.results import Score, Scored, Timings, TokenCounts

NOT_SENT = "NOT_SENT"
"""An item whose time was over before any caller was free to send it."""
MAX_ATTEMPTS = 1_000_000
"""Refusals that one run keeps in memory with their times: retries make more of them than there are items."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One item that is done with. Times are moments on the client's clock; tokens, timings: None unless it is OK."""

    due_s: float
    sent_s: float
    done_s: float
    status: str
    version: str
    tokens: TokenCounts | None = None
    timings: Timings | None = None

    @property
    def ok(self) -> bool:
        return self.timings is not None

    @property
    def latency_s(self) -> float:
        """From when it was due, not from when it was sent: a client held up by the server must not hide it."""
        return self.done_s - self.due_s


@dataclass(slots=True)
class Attempts:
    """Items by the status of each attempt, retried ones included, and the hints that came with refusals. most:
    refusals that are kept with their times and hints; left_out: those that came after, and are counted only."""

    items: Counter[Status] = field(default_factory=Counter)
    refusals: int = 0
    pushbacks_s: list[float] = field(default_factory=list)
    refused_at_s: list[tuple[float, int]] = field(default_factory=list)
    left_out: int = 0
    most: int = MAX_ATTEMPTS

    def add(self, attempt: Attempt, now_s: float) -> None:
        self.items.update(attempt.statuses)
        refused = sum(status in RESENT for status in attempt.statuses)
        self.refusals += bool(refused)
        if not refused and attempt.pushback_s is None:
            return
        if max(len(self.refused_at_s), len(self.pushbacks_s)) >= self.most:
            self.left_out += 1
            return
        if refused:
            self.refused_at_s.append((now_s, refused))
        if attempt.pushback_s is not None:
            self.pushbacks_s.append(attempt.pushback_s)


class Log:
    """Filled by callers, read when the run is over, and now and then by the progress display. entries: items that were
    due after the warm-up; warm_up: those that were due within it, some of which end after it. in_flight: items that
    are under way; cut_off: those whose call was cancelled, of which nothing is known."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._measuring = False
        self.entries: list[Entry] = []
        self.attempts = Attempts()
        self.in_flight = 0
        self.cut_off = 0
        self.warm_up: list[Entry] = []

    def measure(self) -> None:
        """The warm-up is over."""
        self._measuring = True

    def observe(self, attempt: Attempt) -> None:
        if self._measuring:
            self.attempts.add(attempt, self._clock())

    def add(self, entry: Entry, measured: bool) -> None:
        if measured:
            self.entries.append(entry)
        else:
            self.warm_up.append(entry)


def entry(due_s: float, sent_s: float, done_s: float, result: Scored) -> Entry:
    """A result as it is kept: how it went, and nothing of what was said."""
    if isinstance(result, Failure):
        return Entry(due_s, sent_s, done_s, result.status.name, result.version)
    assert isinstance(result, Score)
    return Entry(due_s, sent_s, done_s, Status.OK.name, result.version, result.tokens, result.timings)
