"""`themis versions`: what a fleet holds, and changes of that. All but `publish` ask a server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from themis_client import cli_output, cli_publish
from themis_client.client import Client
from themis_client.fleet import DesiredState, FleetState, Listing, ReplicaState, StoredVersion

OK, NOT_REACHED = 0, 1
HOLD_TTL_S = 3600.0

Run: TypeAlias = Callable[[argparse.Namespace], int]
Open: TypeAlias = Callable[[argparse.Namespace], Client]
Command: TypeAlias = Callable[..., argparse.ArgumentParser]


class VersionCommands:
    """open_client: makes the client that the command line asks for; print: writes a line for people."""

    def __init__(self, open_client: Open, print: Callable[[str], None]) -> None:
        self._open = open_client
        self._print = print

    def add(self, commands: argparse._SubParsersAction[argparse.ArgumentParser], command: Command) -> None:
        """command: adds one that talks to a server, as cli.py does for its own."""
        parser = commands.add_parser("versions", help="judge versions: list, load, promote, retire, hold, publish")
        own = parser.add_subparsers(required=True, metavar="ACTION")
        command(own, "list", "show what is in the store and what each replica holds", self.list)
        loading = command(own, "load", "make a version resident beside the current one", self.load)
        loading.add_argument("version", metavar="VERSION", nargs="?")
        loading.add_argument("--shadow", type=float, metavar="SHARE", help="score this share of live items in shadow")
        loading.add_argument("--stop-shadow", action="store_true", help="end what runs in shadow instead")
        promoting = command(own, "promote", "make a version current", self.promote)
        promoting.add_argument("version", metavar="VERSION")
        promoting.add_argument("--expect", default="", metavar="VERSION", help="only if this one is current now")
        promoting.add_argument("--force", action="store_true", help="unload what has to go, though leases hold it")
        retiring = command(own, "retire", "take a version out for good", self.retire)
        retiring.add_argument("version", metavar="VERSION")
        retiring.add_argument("--unload-only", action="store_true", help="out of the fleet; it stays in the store")
        for changing in (loading, promoting, retiring):
            changing.add_argument("--why", default="", help="for whoever reads the fleet's state later")
            changing.add_argument("--by", default="", help="who asks (default: a caller of the server)")
            changing.add_argument(
                "--wait", type=float, default=60.0, metavar="SECONDS", help="for replicas to follow (%(default)g)"
            )
        holding = command(own, "hold", "keep a version from being retired or unloaded", self.hold)
        holding.add_argument("version", metavar="VERSION")
        holding.add_argument("--holder", required=True, help="who needs it")
        holding.add_argument("--ttl", type=float, default=HOLD_TTL_S, metavar="SECONDS", help="(default: %(default)g)")
        releasing = command(own, "release", "end a lease", self.release)
        releasing.add_argument("lease", metavar="LEASE")
        cli_publish.add(own, self._print)
        for action in own.choices.values():
            action.set_defaults(format="table")

    def list(self, args: argparse.Namespace) -> int:
        with self._open(args) as client:
            self._show(client.manage(lambda versions: versions.list()))
        return OK

    def load(self, args: argparse.Namespace) -> int:
        by, why, wait_s = args.by, args.why, args.wait
        with self._open(args) as client:
            if args.stop_shadow:
                found = client.manage(lambda versions: versions.stop_shadow(by=by, why=why, wait_s=wait_s))
            else:
                found = client.manage(
                    lambda versions: versions.load(
                        args.version or "", shadow_share=args.shadow, by=by, why=why, wait_s=wait_s
                    )
                )
        return self._tell(found)

    def promote(self, args: argparse.Namespace) -> int:
        with self._open(args) as client:
            found = client.manage(
                lambda versions: versions.promote(
                    args.version,
                    expected_current=args.expect,
                    force=args.force,
                    by=args.by,
                    why=args.why,
                    wait_s=args.wait,
                )
            )
        return self._tell(found)

    def retire(self, args: argparse.Namespace) -> int:
        with self._open(args) as client:
            found = client.manage(
                lambda versions: versions.retire(
                    args.version, unload_only=args.unload_only, by=args.by, why=args.why, wait_s=args.wait
                )
            )
        return self._tell(found)

    def hold(self, args: argparse.Namespace) -> int:
        with self._open(args) as client:
            lease = client.manage(lambda versions: versions.acquire(args.version, args.holder, ttl_s=args.ttl))
        self._print(
            f"{lease.id} holds {lease.version} for {lease.holder} until {lease.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        )
        return OK

    def release(self, args: argparse.Namespace) -> int:
        with self._open(args) as client:
            client.manage(lambda versions: versions.release(args.lease))
        return OK

    def _tell(self, fleet: FleetState) -> int:
        self._say_desired(fleet.desired)
        _show_replicas(fleet.replicas)
        if fleet.reached:
            return OK
        self._print("not reached, or not in force any more: see above")
        return NOT_REACHED

    def _show(self, listing: Listing) -> None:
        if listing.store_problem:
            self._print(f"the store can't be read: {listing.store_problem}")
        self._say_desired(listing.fleet.desired)
        cli_output.table(
            ("version", "kind", "created", "from", "leases", "problem"),
            [_stored(one, listing.fleet.desired) for one in listing.versions],
            sys.stdout,
        )
        _show_replicas(listing.fleet.replicas or (listing.answering,))

    def _say_desired(self, desired: DesiredState | None) -> None:
        if desired is None:
            self._print("no version was promoted yet")
            return
        self._print(f"state {desired.number}: current {desired.current}, by {desired.by}{_because(desired.why)}")
        if desired.shadow is not None:
            self._print(f"in shadow: {desired.shadow.version}, {desired.shadow.share:.0%} of live items")


def _because(why: str) -> str:
    return f": {why}" if why else ""


def _stored(version: StoredVersion, desired: DesiredState | None) -> tuple[str, ...]:
    current = desired is not None and desired.current == version.id
    holders = ", ".join(lease.holder for lease in version.leases)
    created = f"{version.created_at:%Y-%m-%d %H:%M}" if version.kind else ""
    name = f"{version.id} (current)" if current else version.id
    return name, version.kind, created, version.parent or version.base_model, holders, version.problem


def _show_replicas(replicas: Sequence[ReplicaState]) -> None:
    rows = [
        (
            one.replica + (" (silent)" if one.stale else ""),
            str(one.applied),
            one.current,
            "; ".join(
                f"{resident.version}: {resident.status.name.lower().replace('_', ' ')}{_because(resident.detail)}"
                for resident in one.residents
            ),
            _agreement(one),
            one.problem,
        )
        for one in replicas
    ]
    cli_output.table(("replica", "state", "current", "versions", "shadow", "problem"), rows, sys.stdout)


def _agreement(replica: ReplicaState) -> str:
    found = replica.shadow
    if found is None:
        return ""
    if found.same_rating_share is None or found.mean_absolute_difference is None:
        return f"nothing compared, {found.dropped} dropped, {found.failed} failed"
    return (
        f"{found.same_rating_share:.0%} same, {found.mean_absolute_difference:.2f} apart, of {found.compared}; "
        f"{found.dropped} dropped, {found.failed} failed"
    )
