"""The judges that are loaded, and which of them a call gets. Changes between two steps of the event loop only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from themis_judge.judge import Judge
from themis_judge.version import JudgeVersion
from themis_sidecar.errors import Unavailable, UnknownVersion

MAX_QUOTED_CHARACTERS = 80


class Resident:
    """A loaded judge under the id that callers know it by. base: the resident whose weights it adapts, None for one
    with weights of its own. `shut` is set once its streams should wind down."""

    def __init__(self, judge: Judge, version: JudgeVersion, base: str | None = None) -> None:
        self.judge = judge
        self.version = version
        self.base = base
        self.calls = 0
        self.leaving = False
        self.idle = asyncio.Event()
        self.idle.set()
        self.shut = asyncio.Event()
        self.why_closed = ""

    @property
    def id(self) -> str:
        return self.version.id

    def close(self, reason: str) -> None:
        """Streams wind down; their callers open others."""
        self.why_closed = reason
        self.shut.set()


class Residents:
    """Lets each call choose once: it keeps its judge to its end, so that no answer mixes versions."""

    def __init__(self) -> None:
        self._residents: dict[str, Resident] = {}
        self._current: Resident | None = None
        self._open = asyncio.Event()
        self._open.set()
        self.on_idle: Callable[[], None] = lambda: None
        """Called when the last call of a resident that leaves has ended."""

    @property
    def all(self) -> tuple[Resident, ...]:
        return tuple(self._residents.values())

    @property
    def current(self) -> Resident | None:
        return self._current

    @property
    def current_first(self) -> list[Resident]:
        """All of them, for people."""
        return sorted(self.all, key=lambda resident: resident is not self._current)

    @property
    def paused(self) -> bool:
        return not self._open.is_set()

    def get(self, id: str) -> Resident | None:
        return self._residents.get(id)

    @contextmanager
    def use(self, asked: str, field: str) -> Iterator[Resident]:
        """The judge for one call: the one asked for, or the current one where nothing is asked.

        Raises UnknownVersion, which says what is here: another replica may hold what isn't.
        """
        resident = self._choose(asked, field)
        resident.calls += 1
        resident.idle.clear()
        try:
            yield resident
        finally:
            resident.calls -= 1
            if not resident.calls:
                resident.idle.set()
                if resident.leaving:
                    self.on_idle()

    def add(self, resident: Resident) -> None:
        """From now on it can be asked for."""
        self._residents[resident.id] = resident

    def promote(self, id: str) -> Resident:
        """From now on it's what callers get who ask for none."""
        self._current = resident = self._residents[id]
        resident.leaving = False
        return resident

    def leave(self, id: str) -> Resident:
        """It finishes the calls that it has, and gets no others."""
        resident = self._residents[id]
        resident.leaving = True
        return resident

    def stay(self, id: str) -> None:
        """Takes `leave` back."""
        self._residents[id].leaving = False

    def remove(self, id: str) -> Resident:
        """Forgets a resident; whoever calls this unloads it."""
        resident = self._residents.pop(id)
        if self._current is resident:
            self._current = None
        return resident

    def pause(self) -> None:
        """New calls wait from now on; see Holding."""
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    async def opened(self) -> None:
        """Returns when new calls need not wait."""
        await self._open.wait()

    def _choose(self, asked: str, field: str) -> Resident:
        found = self._residents.get(asked) if asked else self._current
        if found is not None and not found.leaving:
            return found
        if not asked:
            raise Unavailable("no judge version is current here; retry, or ask another replica")
        raise UnknownVersion(f"{field}: no version {asked[:MAX_QUOTED_CHARACTERS]!r} here; {self._told()}")

    def _told(self) -> str:
        current = "there is no current one" if self._current is None else f"the current one is {self._current.id!r}"
        others = [repr(one.id) for one in self.all if one is not self._current and not one.leaving]
        return f"{current}, also resident: {', '.join(others)}" if others else current
