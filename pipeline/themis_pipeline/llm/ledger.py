"""What a fleet shares by leases: amounts taken from a bound, never more of them than there are.

An account is a log of files, each with the totals taken so far. A taker creates the next one, which only one process
can: that is the whole protocol. Nobody has to be alive for the totals to hold. A process that dies takes what it had
leased and not used with it: the bound errs on the safe side by that much. Kafka could carry the log too, but a taker
would have to read its own write back before it may spend; files that are created exclusively answer at once, and the
pipeline has a store for its archive anyway.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from themis_judge.store.codec import BadJson, canonical, parse
from themis_judge.store.errors import StoreUnavailable
from themis_judge.store.files import AlreadyThere, Files, NotThere
from themis_pipeline.llm.errors import CorruptRecord, SharedStoreUnavailable

Amounts: TypeAlias = tuple[int, ...]

_ENTRY = re.compile(r"([0-9]{8})\.json")
_TRIES = 1000
_FORGOTTEN = 8
_RETRY_AFTER_S = 30.0


class Ledger(Protocol):
    """Every method may block, and raise SharedStoreUnavailable. Safe to use from several threads."""

    def take(self, account: str, least: Amounts, wish: Amounts, bound: Amounts) -> Amounts | None:
        """At least `least`, at most `wish`, such that the account's totals stay within the bound; None if `least`
        doesn't fit."""
        ...

    def give_back(self, account: str, amounts: Amounts) -> None:
        """Of what was taken, what was not used."""
        ...

    def taken(self, account: str) -> Amounts:
        """The totals; () of an account that nobody has used."""
        ...

    def forget(self, folder: str, before: str) -> None:
        """Drops accounts of a folder whose names come before that one: the oldest few, since a call waits for it."""
        ...


class MemoryLedger:
    """For a pipeline of one process."""

    def __init__(self) -> None:
        self._totals: dict[str, Amounts] = {}
        self._lock = threading.Lock()

    def take(self, account: str, least: Amounts, wish: Amounts, bound: Amounts) -> Amounts | None:
        with self._lock:
            totals = self._totals.get(account, (0,) * len(bound))
            granted = _granted(totals, least, wish, bound)
            if granted is not None:
                self._totals[account] = _sum(totals, granted)
            return granted

    def give_back(self, account: str, amounts: Amounts) -> None:
        with self._lock:
            self._totals[account] = _sum(self._totals[account], [-amount for amount in amounts])

    def taken(self, account: str) -> Amounts:
        with self._lock:
            return self._totals.get(account, ())

    def forget(self, folder: str, before: str) -> None:
        with self._lock:
            gone = [name for name in self._totals if name.startswith(f"{folder}/") and name < f"{folder}/{before}"]
            for name in gone:
                del self._totals[name]


class FileLedger:
    """In a directory that processes share, or an object store. Remembers where each log ended."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._ends: dict[str, tuple[int, Amounts]] = {}
        self._lock = threading.Lock()

    def take(self, account: str, least: Amounts, wish: Amounts, bound: Amounts) -> Amounts | None:
        for _ in range(_TRIES):
            number, totals = self._end(account)
            totals = totals or (0,) * len(bound)
            granted = _granted(totals, least, wish, bound)
            if granted is None or self._append(account, number + 1, _sum(totals, granted)):
                return granted
        raise SharedStoreUnavailable(f"{account}: others were first {_TRIES} times", _RETRY_AFTER_S)

    def give_back(self, account: str, amounts: Amounts) -> None:
        for _ in range(_TRIES):
            number, totals = self._end(account)
            if self._append(account, number + 1, _sum(totals, [-amount for amount in amounts])):
                return
        raise SharedStoreUnavailable(f"{account}: others were first {_TRIES} times", _RETRY_AFTER_S)

    def taken(self, account: str) -> Amounts:
        return self._end(account)[1]

    def forget(self, folder: str, before: str) -> None:
        try:
            old = [entry.name for entry in self._files.children(folder) if entry.is_folder and entry.name < before]
            for name in old[:_FORGOTTEN]:
                for entry in self._files.children(f"{folder}/{name}"):
                    self._files.delete(f"{folder}/{name}/{entry.name}")
        except StoreUnavailable as error:
            raise SharedStoreUnavailable(str(error), _RETRY_AFTER_S) from error
        with self._lock:  # those too that others dropped
            for account in [name for name in self._ends if f"{folder}/" <= name < f"{folder}/{before}"]:
                del self._ends[account]

    def _append(self, account: str, number: int, totals: Amounts) -> bool:
        # Two takers may write the same totals: the nonce tells whose they are, also where a store's answer is lost
        # and the creation is tried again.
        content = canonical({"totals": list(totals), "nonce": secrets.token_hex(16)})
        try:
            self._files.create(f"{account}/{number:08}.json", content)
        except AlreadyThere:
            return False
        except StoreUnavailable as error:
            raise SharedStoreUnavailable(str(error), _RETRY_AFTER_S) from error
        with self._lock:
            self._ends[account] = max(self._ends.get(account, (0, ())), (number, totals))
        return True

    def _end(self, account: str) -> tuple[int, Amounts]:
        with self._lock:
            number, totals = self._ends.get(account, (0, ()))
        try:
            if number == 0:
                names = (_ENTRY.fullmatch(entry.name) for entry in self._files.children(account))
                number = max(max((int(name[1]) for name in names if name), default=0) - 1, 0)
            while True:
                path = f"{account}/{number + 1:08}.json"
                try:
                    totals = _totals(path, self._files.read(path))
                except NotThere:
                    break
                number += 1
        except StoreUnavailable as error:
            raise SharedStoreUnavailable(str(error), _RETRY_AFTER_S) from error
        with self._lock:
            self._ends[account] = max(self._ends.get(account, (0, ())), (number, totals))
        return number, totals


def _granted(totals: Amounts, least: Amounts, wish: Amounts, bound: Amounts) -> Amounts | None:
    left = [most - total for most, total in zip(bound, totals, strict=True)]
    if any(need > 0 and need > rest for need, rest in zip(least, left, strict=True)):
        return None
    return tuple(max(need, min(want, rest), 0) for need, want, rest in zip(least, wish, left, strict=True))


def _sum(totals: Amounts, more: Sequence[int]) -> Amounts:
    return tuple(total + amount for total, amount in zip(totals, more, strict=True))


def _totals(path: str, data: bytes) -> Amounts:
    try:
        found = parse(data).get("totals")
    except BadJson as error:
        raise CorruptRecord(f"{path}: {error}") from error
    if not isinstance(found, list) or not all(type(amount) is int for amount in found):
        raise CorruptRecord(f"{path}: has no totals")
    return tuple(found)
