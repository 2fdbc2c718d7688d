"""What goes wrong with a store of versions."""

from __future__ import annotations

from themis_judge.errors import JudgeError


class StoreError(JudgeError):
    """Base of what the store raises."""


class UnknownVersion(StoreError):
    """No such version: never published, retired, or not an id at all."""


class CorruptVersion(StoreError):
    """A version's manifest or one of its files is not what was published. The text names what is wrong."""


class CorruptEntry(StoreError):
    """Another entry of the store, such as a desired state or a lease, is not readable as what it should be."""


class Refused(StoreError):
    """What was asked for can't be stored as it stands: an unsafe file, a bad name, a draft that contradicts itself."""


class Conflict(StoreError):
    """Somebody else was first: read again and decide anew."""


class InUse(StoreError):
    """A version can't be retired. `where` says what uses it, one text a use."""

    def __init__(self, version: str, where: tuple[str, ...]) -> None:
        super().__init__(f"{version} is in use: {'; '.join(where)}")
        self.version = version
        self.where = where


class CacheFull(StoreError):
    """The local cache's bound leaves no room for a version beside those in use."""


class StoreUnavailable(StoreError):
    """The store can't be used now: unreachable, full, not permitted, or too slow. Whether a write took place is not
    known; every write can be tried again."""
