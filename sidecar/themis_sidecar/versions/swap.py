"""One set of weights in place of another, where both don't fit: drain, exchange, resume. Calls wait, none is lost."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence

from themis_sidecar.versions.loading import LoadFailed
from themis_sidecar.versions.residents import Resident, Residents

EXCHANGED = "this replica exchanges its judge for another; open another stream"


class Swap:
    """Calls in flight end by their own deadlines, streams as soon as what they hold is answered."""

    def __init__(self, residents: Residents) -> None:
        self._residents = residents

    async def exchange(self, leaving: Sequence[Resident], load: Callable[[], Awaitable[Sequence[Resident]]]) -> None:
        """`leaving` (adapters before what they stand on) out, what `load` gives in, and its last one current. Where it
        raises LoadFailed the old ones are back when that goes on to the caller."""
        current = self._residents.current
        self._residents.pause()
        try:
            await self._drain(leaving)
            await self._remove(leaving)
            try:
                arrived = await load()
            except LoadFailed:
                await self._restore(leaving, current)
                raise
            for resident in arrived:
                self._residents.add(resident)
            self._residents.promote(arrived[-1].id)
        finally:
            self._residents.resume()

    async def _drain(self, leaving: Sequence[Resident]) -> None:
        for resident in leaving:
            resident.close(EXCHANGED)
        for resident in leaving:
            await resident.idle.wait()

    async def _remove(self, leaving: Sequence[Resident]) -> None:
        for resident in leaving:
            self._residents.remove(resident.id)
            await resident.judge.unload()
        gc.collect()  # weights in a cycle would stay until some later collection, and there is no room for two

    async def _restore(self, leaving: Sequence[Resident], current: Resident | None) -> None:
        for resident in reversed(leaving):
            await resident.judge.load()
            self._residents.add(Resident(resident.judge, resident.version, resident.base))
        if current is not None and self._residents.get(current.id) is not None:
            self._residents.promote(current.id)
