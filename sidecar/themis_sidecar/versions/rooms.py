"""What the store knows of the versions that a decision is about."""

from __future__ import annotations

from collections.abc import Iterable

from themis_judge.store import CorruptVersion, JudgeStore, Manifest, UnknownVersion
from themis_sidecar.versions.desired import Room
from themis_sidecar.versions.store_calls import StoreCalls


async def read_room(store: StoreCalls, max_weights: int, versions: Iterable[str]) -> Room:
    """Without the manifests that can't be read any more: such a version may still have to make room for another.
    Raises StoreUnavailable."""
    found = [await _manifest(store, id) for id in sorted(set(versions))]
    leases = await store.run(JudgeStore.leases)
    manifests = {manifest.id: manifest for manifest in found if manifest is not None}
    return Room(max_weights, manifests, frozenset(lease.version for lease in leases))


async def _manifest(store: StoreCalls, id: str) -> Manifest | None:
    try:
        return await store.run(JudgeStore.manifest, id)
    except (CorruptVersion, UnknownVersion):
        return None
