"""The clocks that a store reads, and how it writes times."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Protocol

from themis_judge.store.errors import CorruptEntry
from themis_judge.store.files import Files
from themis_judge.store.layout import CLOCK

_STAMP = "now"


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall time, with its zone."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that nobody can set."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def monotonic_s(self) -> float:
        return time.monotonic()


def written(at: datetime) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    return at.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_time(text: str, where: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise CorruptEntry(f"{where}: {text!r} is no time as RFC 3339 writes it") from error
    if at.tzinfo is None:
        raise CorruptEntry(f"{where}: {text!r} has no time zone")
    return at


def store_now_s(files: Files) -> float:
    """Seconds since 1970 by the clock that stamps the store's files, so that their ages don't depend on ours."""
    files.replace(f"{CLOCK}/{_STAMP}", b"")
    return next(entry.modified_at_s for entry in files.children(CLOCK) if entry.name == _STAMP)
