"""Answers that were paid for, so that a repeat isn't paid again.

One small file a call, created exclusively in a directory that processes share or an object store, and not a database
on a machine's own disk: a call is repeated by whoever gets its partition next, and that is often another machine. An
answer takes seconds; a file takes milliseconds, is on the disk or not there, and needs no recovery after a kill.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from themis_judge.store.codec import BadJson, canonical, decode, encode, parse
from themis_judge.store.errors import StoreUnavailable
from themis_judge.store.files import AlreadyThere, Files, NotThere
from themis_pipeline.llm.calls import CallKey, Finish
from themis_pipeline.llm.errors import CorruptRecord, SharedStoreUnavailable

_RETRY_AFTER_S = 30.0
_FOLDERS = tuple(f"journal-{number:02x}" for number in range(256))


@dataclass(frozen=True, slots=True)
class Entry:
    """digest: of the request. Answers without a whole text are entries too: they were paid."""

    input_id: str
    stage: str
    index: int
    digest: str
    text: str = field(repr=False)
    finish: Finish
    endpoint: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_micros: int
    attempt: int = 0

    @property
    def key(self) -> CallKey:
        return CallKey(self.input_id, self.stage, self.index, self.attempt)


class Journal(Protocol):
    """Every method may block, and raise SharedStoreUnavailable and CorruptRecord. Safe to use from several threads
    and processes."""

    def find(self, key: CallKey, digest: str) -> Entry | None: ...

    def record(self, entry: Entry) -> Entry:
        """The entry that stands: this one, or that of another process which paid for the same call first. It is on
        the disk, or in the object store, when this returns."""
        ...


class FileJournal:
    def __init__(self, files: Files) -> None:
        self._files = files

    def find(self, key: CallKey, digest: str) -> Entry | None:
        path = _path(key, digest)
        try:
            found = decode(Entry, parse(self._files.read(path)), lenient=True)
        except NotThere:
            return None
        except StoreUnavailable as error:
            raise SharedStoreUnavailable(str(error), _RETRY_AFTER_S) from error
        except BadJson as error:
            raise CorruptRecord(f"{path}: {error}") from None  # the cause may hold an answer's text
        if (found.key, found.digest) != (key, digest):
            raise CorruptRecord(f"{path}: is the entry of another call")
        return found

    def record(self, entry: Entry) -> Entry:
        try:
            self._files.create(_path(entry.key, entry.digest), encode(entry))
        except AlreadyThere:
            return self.find(entry.key, entry.digest) or entry  # pruned since: ours is as good
        except StoreUnavailable as error:
            raise SharedStoreUnavailable(str(error), _RETRY_AFTER_S) from error
        return entry

    def prune(self, before_s: float) -> Iterator[int]:
        """Removes entries written before then, in seconds since 1970 by the store's clock; how many, folder by folder.
        An input that can still be read again from its topic needs its entries: keep them longer than the topic keeps
        its records."""
        for folder in _FOLDERS:
            try:
                old = [child for child in self._files.children(folder) if child.modified_at_s < before_s]
                for child in old:
                    self._files.delete(f"{folder}/{child.name}")
            except StoreUnavailable as error:
                raise SharedStoreUnavailable(str(error), _RETRY_AFTER_S) from error
            yield len(old)


def _path(key: CallKey, digest: str) -> str:
    name = hashlib.sha256(canonical([key.input_id, key.stage, key.index, key.attempt, digest])).hexdigest()
    return f"journal-{name[:2]}/{name}.json"
