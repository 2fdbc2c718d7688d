"""`themis-pipeline archive`: what an archive holds, and what can go from it."""

from __future__ import annotations

import argparse
import sys
from typing import TypeAlias

from themis_pipeline.exits import BAD_INPUT, OK

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

AT_LEAST_H = 1.0
"""A writer that is slower than what is swept would name files that are gone; its stage's process is ended long before
(`ArchiveLimits.work_s`)."""


def add_archive(commands: Commands) -> None:
    """The command with its options; its `run` gives the exit code."""
    parser = commands.add_parser("archive", help="show what an archive holds, or remove what never came to count")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    show = actions.add_parser("show", help="each partition's records, manifests and end")
    show.set_defaults(run=_show)
    sweep = actions.add_parser("sweep", help="remove data files of writers that died before their manifest")
    sweep.add_argument("--older-than-h", type=float, default=24.0, help="hours, at least 1; default 24")
    sweep.set_defaults(run=_sweep)
    for action in (show, sweep):
        action.add_argument("archive", help="a directory or an fsspec address")


def _show(args: argparse.Namespace) -> int:
    return _on(args, sweeping=False)


def _sweep(args: argparse.Namespace) -> int:
    if not args.older_than_h >= AT_LEAST_H:
        return _complain(f"--older-than-h: is {args.older_than_h:g}; at least {AT_LEAST_H:g}, for writers at work")
    return _on(args, sweeping=True)


def _on(args: argparse.Namespace, *, sweeping: bool) -> int:
    """Loads pyarrow and fsspec when they are wanted alone."""
    from themis_judge.store.errors import StoreError
    from themis_pipeline.archive import ArchiveError, open_files
    from themis_pipeline.archive.garbage import sweep
    from themis_pipeline.archive.reader import snapshot

    try:
        files = open_files(args.archive)
        try:
            if sweeping:
                _say(f"{len(sweep(files, args.older_than_h * 3600))} data files removed")
            else:
                found = snapshot(files)
                ends = {(one.topic, one.partition): one for one in found.manifests}
                for key, last in ends.items():
                    own = [one for one in found.manifests if (one.topic, one.partition) == key]
                    rows = sum(one.rows for one in own)
                    _say(f"{key[0]}/{key[1]}: {rows} records in {len(own)} manifests, up to offset {last.end}")
                _say(f"{found.rows} records, snapshot {found.digest}")
        finally:
            files.close()
    except (ArchiveError, StoreError) as error:
        return _complain(str(error))
    return OK


def _complain(problem: str) -> int:
    sys.stderr.write(f"archive: {problem}\n")
    return BAD_INPUT


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
