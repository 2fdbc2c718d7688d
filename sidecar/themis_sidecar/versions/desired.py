"""From one desired state to the next: what a promotion, a load, a retirement and a roll-back make of it. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from themis_judge.store import DesiredState, Manifest, Shadow
from themis_sidecar.errors import FailedPrecondition


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes the state, when (RFC 3339, UTC), and why."""

    by: str
    at: str
    why: str


@dataclass(frozen=True, slots=True)
class Room:
    """What a replica can hold: `max_weights` sets of weights, adapters aside. leased: versions that have to stay."""

    max_weights: int
    manifests: Mapping[str, Manifest]
    leased: frozenset[str] = frozenset()

    def weights(self, versions: Iterable[str]) -> int:
        """How many sets of weights it takes to hold these versions."""
        return sum(self._kind(id) != "lora" for id in set(versions))

    def with_bases(self, versions: Iterable[str]) -> list[str]:
        """The versions, and the ones that their adapters stand on; without repetition, in order."""
        found: dict[str, None] = {}
        for id in versions:
            if self._kind(id) == "lora":
                found.setdefault(self.manifests[id].base_model)
            found.setdefault(id)
        return list(found)

    def _kind(self, id: str) -> str:
        # What can't be read any more is counted as the larger of the two.
        return self.manifests[id].kind if id in self.manifests else "full"


def promoted(now: DesiredState | None, version: str, room: Room, author: Author, force: bool) -> DesiredState:
    """`version` current; leased versions stay, then as much of what was resident as there is room for.

    Raises FailedPrecondition where there is no room for what leases hold, unless forced.
    """
    before = () if now is None else now.resident
    leased = [id for id in before if id in room.leased and not force]
    needed = room.with_bases([version, *leased])
    if room.weights(needed) > room.max_weights:
        raise FailedPrecondition(
            f"{version} would need {_sets(room.weights(needed))} with what leases hold, "
            f"{', '.join(leased) or 'nothing'}, and a replica holds {room.max_weights}; "
            "wait for the leases, release them, or force it"
        )
    previous = None if now is None else now.current if now.current != version else now.previous
    shadow = None if now is None else now.shadow
    optional = [id for id in (previous, shadow and shadow.version, *before) if id]
    resident = _filled(needed, optional, room)
    kept = shadow if shadow is not None and shadow.version in resident and shadow.version != version else None
    return _next(now, author, current=version, resident=resident, shadow=kept, previous=previous)


def loaded(now: DesiredState | None, version: str, room: Room, author: Author, share: float | None) -> DesiredState:
    """`version` resident as well; with `share` in shadow, in place of what was. The first version ever is current.

    Raises FailedPrecondition where there is no room, or where the current version should be its own shadow.
    """
    if now is None:
        if share is not None:
            raise FailedPrecondition(
                f"nothing is current that {version} could be compared with; promote a version first"
            )
        return promoted(None, version, room, author, force=False)
    if share is not None and version == now.current:
        raise FailedPrecondition(f"{version} is current; a version can't be its own shadow")
    kept = [id for id in now.resident if share is None or now.shadow is None or id != now.shadow.version]
    resident = room.with_bases([*kept, version])
    if room.weights(resident) > room.max_weights:
        raise FailedPrecondition(
            f"{', '.join(kept)} are resident and {version} would be one too many: a replica holds "
            f"{_sets(room.max_weights)} (versions.max_resident); unload one first"
        )
    shadow = now.shadow if share is None else Shadow(version, share)
    return _next(now, author, current=now.current, resident=resident, shadow=shadow, previous=now.previous)


def without_shadow(now: DesiredState | None, author: Author) -> DesiredState:
    """Nothing in shadow, and what was is not resident any more."""
    if now is None or now.shadow is None:
        raise FailedPrecondition("nothing runs in shadow")
    return without(now, now.shadow.version, author)


def without(now: DesiredState, version: str, author: Author) -> DesiredState:
    """`version` not resident any more, nor a place to roll back to. Raises FailedPrecondition for the current one."""
    if version == now.current:
        raise FailedPrecondition(f"{version} is current; promote another version first")
    shadow = None if now.shadow is None or now.shadow.version == version else now.shadow
    previous = None if now.previous == version else now.previous
    resident = [id for id in now.resident if id != version]
    return _next(now, author, current=now.current, resident=resident, shadow=shadow, previous=previous)


def rolled_back(now: DesiredState, before: DesiredState | None, room: Room, author: Author) -> DesiredState | None:
    """What was current before is so again, with what was resident and in shadow then, as far as it is still there; the
    failed one is not resident any more. before: the last state with another current version. None where nothing was.
    """
    if now.previous is None:
        return None
    then = before if before is not None and before.current == now.previous else None
    leased = [id for id in now.resident if id in room.leased]
    wanted = (*leased, *(() if then is None else then.resident), *now.resident)
    optional = [id for id in wanted if id != now.current and id in room.manifests]
    resident = _filled(room.with_bases([now.previous]), optional, room)
    shadow = now.shadow or (None if then is None else then.shadow)
    kept = shadow if shadow is not None and shadow.version in resident and shadow.version != now.previous else None
    return _next(now, author, current=now.previous, resident=resident, shadow=kept, previous=None)


def _filled(needed: list[str], optional: Collection[str], room: Room) -> list[str]:
    resident = needed
    for id in optional:
        larger = room.with_bases([*resident, id])
        if room.weights(larger) <= room.max_weights:
            resident = larger
    return resident


def _next(
    now: DesiredState | None,
    author: Author,
    *,
    current: str,
    resident: Iterable[str],
    shadow: Shadow | None,
    previous: str | None,
) -> DesiredState:
    return DesiredState(
        number=1 if now is None else now.number + 1,
        current=current,
        resident=tuple(sorted(set(resident))),
        shadow=shadow,
        previous=previous,
        by=author.by,
        at=author.at,
        why=author.why,
    )


def _sets(count: int) -> str:
    return "one set of weights" if count == 1 else f"{count} sets of weights"
