"""Brings paid answers into the journal, though their callers leave, and holds on to those that it could not write."""

from __future__ import annotations

import asyncio

from themis_pipeline.llm.calls import CallKey
from themis_pipeline.llm.errors import CorruptRecord, SharedStoreUnavailable
from themis_pipeline.llm.journal import Entry, Journal


class Recording:
    """For one event loop. What is held is bounded by the calls in flight as the store went away, since nothing more is
    paid until it is back."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._unwritten: dict[tuple[CallKey, str], Entry] = {}
        self._failed: dict[tuple[CallKey, str], Entry] = {}
        self._writing: set[asyncio.Task[Entry]] = set()

    async def find(self, key: CallKey, digest: str) -> Entry | None:
        """Raises SharedStoreUnavailable and CorruptRecord."""
        here = self._unwritten.get((key, digest))
        return here or await asyncio.to_thread(self._journal.find, key, digest)

    async def check(self) -> None:
        """Raises SharedStoreUnavailable while the journal can't be written: an answer that is paid now would be paid
        again after a crash."""
        for entry in list(self._failed.values()):
            await self._write(entry)

    async def record(self, entry: Entry) -> Entry:
        """The entry that stands. Raises SharedStoreUnavailable, and what is to be written then is held here."""
        self._unwritten[entry.key, entry.digest] = entry
        task = asyncio.ensure_future(self._write(entry))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Waits for what is being written."""
        await asyncio.gather(*self._writing, return_exceptions=True)

    async def _write(self, entry: Entry) -> Entry:
        place = (entry.key, entry.digest)
        try:
            stands = await asyncio.to_thread(self._journal.record, entry)
        except SharedStoreUnavailable:
            self._failed[place] = entry
            raise
        except CorruptRecord:
            self._forget(place)
            raise
        self._forget(place)
        return stands

    def _forget(self, place: tuple[CallKey, str]) -> None:
        self._unwritten.pop(place, None)
        self._failed.pop(place, None)
