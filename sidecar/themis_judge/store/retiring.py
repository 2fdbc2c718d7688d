"""Retiring versions, and what keeps one from being retired."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from themis_judge.store import layout
from themis_judge.store.clock import Clock, store_now_s, written
from themis_judge.store.codec import encode
from themis_judge.store.desired import DesiredLog
from themis_judge.store.errors import Conflict, CorruptVersion, InUse
from themis_judge.store.files import AlreadyThere, Files
from themis_judge.store.leases import Leases
from themis_judge.store.manifests import list_versions, read_manifest, read_tombstone
from themis_judge.store.types import DesiredState, Manifest, Tombstone

_ATTEMPTS = 10


class Retiring:
    """First the tombstone, which stops new uses, then a look at the uses there are, then a state in the log: whoever
    proposes after that has seen the tombstone, and whoever proposed before has been seen. A version that turns out
    to be in use gets its tombstone taken away again; if that is cut short it goes on as long as it is used."""

    def __init__(self, files: Files, clock: Clock, log: DesiredLog, leases: Leases) -> None:
        self._files = files
        self._clock = clock
        self._log = log
        self._leases = leases

    def retire(self, version: str, why: str, by: str) -> Tombstone:
        with suppress(CorruptVersion):  # one more reason to get rid of it
            read_manifest(self._files, version)
        tombstone = Tombstone(version, written(self._clock.now()), why)
        try:
            self._refuse_if_used(version, self._log.read())
            tombstone = self._marked(tombstone)
            self._fence(version, by)
        except (InUse, Conflict):
            self._files.delete(layout.tombstone_path(version))
            raise
        return tombstone

    def _marked(self, tombstone: Tombstone) -> Tombstone:
        """The tombstone that stands there, this one or an earlier one."""
        try:
            self._files.create(layout.tombstone_path(tombstone.version), encode(tombstone))
        except AlreadyThere:
            return read_tombstone(self._files, tombstone.version) or tombstone
        return tombstone

    def uses(self, version: str, state: DesiredState | None, now_s: float) -> tuple[str, ...]:
        """now_s: the store's own time."""
        found = []
        if state is not None:
            found += ["it is current"] if version == state.current else []
            found += ["it is resident"] if version in state.resident and version != state.current else []
            found += ["it is the shadow"] if state.shadow and version == state.shadow.version else []
        found += [f"{lease.holder} holds lease {lease.id}" for lease in self._leases.alive(version, now_s)]
        for other in list_versions(self._files):
            if isinstance(other, Manifest) and other.kind == "lora" and other.base_model == version:
                found.append(f"{other.id} adapts it")
        return tuple(found)

    def _refuse_if_used(self, version: str, state: DesiredState | None) -> None:
        found = self.uses(version, state, store_now_s(self._files))
        if found:
            raise InUse(version, found)

    def _fence(self, version: str, by: str) -> None:
        for _ in range(_ATTEMPTS):
            state = self._log.read()
            self._refuse_if_used(version, state)
            if state is None:
                return
            try:
                self._log.propose(
                    replace(
                        state,
                        number=state.number + 1,
                        previous=None if state.previous == version else state.previous,
                        by=by,
                        at=written(self._clock.now()),
                        why=f"retired {version}",
                    )
                )
            except Conflict:
                continue
            return
        raise Conflict(f"{version}: the desired state changed {_ATTEMPTS} times while it was being retired")
