"""The log of desired states. Its highest number is in force, and that a number can be created once only is the
compare-and-set."""

from __future__ import annotations

import re
import secrets
import threading

from themis_judge.store import layout
from themis_judge.store.codec import BadJson, canonical, decode, parse, to_plain
from themis_judge.store.errors import Conflict, CorruptEntry, Refused, UnknownVersion
from themis_judge.store.files import AlreadyThere, Files, NotThere
from themis_judge.store.manifests import read_manifest, read_tombstone
from themis_judge.store.types import DesiredState

_LOOK_BACK = 1000  # states between one current version and the next, at most
_ENTRY = re.compile(r"([0-9]{8})\.json")


class DesiredLog:
    """Remembers where the log ended, so that looking again costs one read. Safe to use from several threads."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._newest: tuple[int, bytes] = (0, b"")

    def read(self) -> DesiredState | None:
        number, data = self._end()
        if number == 0:
            return None
        try:
            return decode(DesiredState, parse(data).get("state", {}), lenient=True)
        except BadJson as error:
            raise CorruptEntry(f"{layout.desired_path(number)}: {error}") from error

    def before(self, state: DesiredState) -> DesiredState | None:
        """The last state before this one in which another version was current; None where there is none to be read."""
        for number in range(state.number - 1, max(0, state.number - 1 - _LOOK_BACK), -1):
            try:
                data = self._files.read(layout.desired_path(number))
                found = decode(DesiredState, parse(data).get("state", {}), lenient=True)
            except (NotThere, BadJson):
                return None
            if found.current != state.current:
                return found
        return None

    def propose(self, state: DesiredState) -> None:
        """Raises Conflict if its number isn't the next one, Refused, and UnknownVersion for a version that it brings
        in and that isn't there or is retired."""
        _check(state)
        number, _ = self._end()
        if state.number != number + 1:
            raise Conflict(f"desired state {state.number}: number {number} is in force; read it and decide anew")
        self._check_versions(state)
        # Two proposals may be equal to the letter, yet one of them has lost: the nonce tells them apart, also where a
        # store's answer is lost and the creation is tried again.
        content = {"state": to_plain(state, DesiredState), "nonce": secrets.token_hex(16)}
        try:
            self._files.create(layout.desired_path(state.number), canonical(content))
        except AlreadyThere as error:
            raise Conflict(f"desired state {state.number}: somebody else was first") from error

    def _check_versions(self, state: DesiredState) -> None:
        """Those that the state before it didn't name. Retiring a version writes a state as well (retiring.py), so
        whoever saw the last number sees every tombstone that counts."""
        try:
            before = self.read()
        except CorruptEntry:
            before = None
        for version in sorted(state.versions - (before.versions if before else frozenset())):
            if read_tombstone(self._files, version) is not None:
                raise UnknownVersion(f"{version} is retired")
            read_manifest(self._files, version)

    def _end(self) -> tuple[int, bytes]:
        with self._lock:
            number, data = self._newest
        if number == 0:
            names = (_ENTRY.fullmatch(entry.name) for entry in self._files.children(layout.DESIRED))
            number = max((int(name[1]) for name in names if name), default=0) - 1
            number, data = max(number, 0), b""
        while True:
            try:
                data = self._files.read(layout.desired_path(number + 1))
            except NotThere:
                break
            number += 1
        with self._lock:
            self._newest = max(self._newest, (number, data))
            return self._newest


def _check(state: DesiredState) -> None:
    if state.current not in state.resident:
        raise Refused(f"desired state {state.number}: current, {state.current}, is not resident")
    if len(set(state.resident)) != len(state.resident):
        raise Refused(f"desired state {state.number}: a resident version is named twice")
    if state.shadow is not None and not 0 < state.shadow.share <= 1:
        raise Refused(f"desired state {state.number}: shadow.share is {state.shadow.share}; it lies in (0, 1]")
    if state.shadow is not None and state.shadow.version == state.current:
        raise Refused(f"desired state {state.number}: {state.current} is current and its own shadow")
