"""How the processes of one run come to one judge version without knowing each other: by leases that bear its name.

A process takes a lease on what the run holds already, or else on what is current, and looks again: if the run holds
nothing but that it stays, else it gives its lease back and begins anew after a random wait. Of two processes with
different versions at least one sees the other's lease, since each has its own before it looks.
"""

from __future__ import annotations

import random
import time
from typing import NamedTuple

from themis_client.client import Client
from themis_client.errors import ThemisError
from themis_client.fleet import Listing

TTL_S = 120.0
"""How long the first lease lives; the client that then works takes one of its own."""
MOST_WAIT_S = 1.0


class Pinned(NamedTuple):
    """A judge version, and whether it is to be held by a lease."""

    version: str
    leased: bool


def version_of_run(client: Client, run: str, timeout_s: float) -> Pinned:
    """The version that this run's processes use. Raises ThemisError, also where they did not agree in time."""
    chance = random.SystemRandom()  # ranks seed the random module alike, and would wait alike
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        listing = client.manage(lambda versions: versions.list())
        if listing.fleet.desired is None and not listing.store_problem:  # no store: one version for a server's life
            return Pinned(client.refresh_version(), leased=False)
        held = _held(listing, run)
        if len(held) < 2 and _stays(client, run, version := held.pop() if held else client.refresh_version()):
            return Pinned(version, leased=True)
        time.sleep(chance.uniform(0.0, MOST_WAIT_S))
    raise ThemisError(f"the processes of run {run!r} did not agree on a judge version within {timeout_s:g} s")


def _stays(client: Client, run: str, version: str) -> bool:
    """Holds a version in the run's name, and says whether that holds no other."""
    lease = client.manage(lambda versions: versions.acquire(version, run, ttl_s=TTL_S))
    if _held(client.manage(lambda versions: versions.list()), run) == {version}:
        return True
    client.manage(lambda versions: versions.release(lease.id))
    return False


def _held(listing: Listing, run: str) -> set[str]:
    return {version.id for version in listing.versions for lease in version.leases if lease.holder == run}
