"""`themis-pipeline select` at work: it reads an archive, and writes what was chosen, and why, into a folder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from themis_judge.store.errors import StoreError
from themis_pipeline.archive.errors import ArchiveError
from themis_pipeline.archive.parquet import to_parquet
from themis_pipeline.archive.place import open_files
from themis_pipeline.archive.reader import Snapshot, read, snapshot
from themis_pipeline.archive.record import Record
from themis_pipeline.select.candidates import MixedScorers, candidates_of, place_of
from themis_pipeline.select.capping import Caps
from themis_pipeline.select.near_duplicates import Sieve
from themis_pipeline.select.outcome import Outcome
from themis_pipeline.select.outliers import Spread
from themis_pipeline.select.picture import draw
from themis_pipeline.select.report import notes, report
from themis_pipeline.select.selection import Settings, select
from themis_pipeline.select.triggers import Scan

Pool: TypeAlias = Mapping[tuple[str, str], Spread]

RECORDS, DECISIONS, SUMMARY, PICTURE, POOL = (
    "records.parquet", "decisions.jsonl", "selection.json", "selection.png", "pool.json",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    """Everything that is written: the snapshot and settings give the same of it again."""

    taken: Snapshot
    records: list[Record]
    settings: Settings
    outcome: Outcome


def run(args: argparse.Namespace) -> int:
    """0; 2 for what can't be done, with a sentence on standard error."""
    errors = Console(stderr=True, highlight=False, markup=False)
    try:
        settings = _settings(args)
        if args.out.exists():
            raise ValueError(f"{args.out} is there already")
        made = _select(args.archive, settings, _read_pool(args.pool))
        _write(made, args.out)
    except (ArchiveError, MixedScorers, OSError, StoreError, ValueError) as error:
        errors.print(f"select: {error}", soft_wrap=True)
        return 2
    console = Console(highlight=False, markup=False)
    console.print(report(made.outcome))
    console.print(f"{len(made.records)} records in {args.out}", soft_wrap=True)
    return 0


def _select(url: str, settings: Settings, pool: Pool | None) -> Made:
    files = open_files(url)
    try:
        taken = snapshot(files)
        outcome = select(candidates_of(read(files, taken), settings.definition), settings, pool)
        kept = outcome.kept_places
        records = [record for record in read(files, taken) if place_of(record) in kept]
    finally:
        files.close()
    return Made(taken, records, settings, outcome)


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(
        definition=args.definition,
        scorer=args.scorer,
        order=args.order,
        drop_above_one=not args.keep_above_one,
        outlier_z=args.outlier_z,
        top=args.top,
        share=args.share,
        ratios=dict(args.ratio),
        caps=Caps(args.source_share, dict(args.cap)),
        sieve=None if args.similarity is None else Sieve(similarity=args.similarity),
        scan=None if args.keep_triggers else Scan(),
        seed=args.seed,
        keep_judge_lineage=args.keep_judge_lineage,
    )


def _write(made: Made, out: Path) -> None:
    """The summary last: where it is, everything is."""
    out.mkdir(parents=True)
    (out / RECORDS).write_bytes(to_parquet(made.records))
    decisions = ({**asdict(one), "reason": one.reason.value} for one in made.outcome.decisions)
    (out / DECISIONS).write_text("".join(f"{json.dumps(one, sort_keys=True)}\n" for one in decisions))
    pool = [{"scenario": key[0], "template": key[1], **asdict(found)} for key, found in made.outcome.pool.items()]
    (out / POOL).write_text(json.dumps(pool, indent=2) + "\n")
    draw(made.outcome, out / PICTURE, _words(made.settings))
    (out / SUMMARY).write_text(json.dumps(_summary(made), indent=2, sort_keys=True) + "\n")


def _summary(made: Made) -> dict[str, Any]:
    return {
        "snapshot": made.taken.digest,
        "settings": asdict(made.settings),
        "counts": {reason.value: count for reason, count in made.outcome.counts.items()},
        "shortfall": dict(made.outcome.shortfall),
        "triggers": [asdict(trigger) for trigger in made.outcome.triggers],
        "notes": list(notes(made.outcome)),
    }


def _words(settings: Settings) -> str:
    number = f"top {settings.top}" if settings.top is not None else f"share {settings.share}"
    if settings.top is None and settings.share is None:
        number = "all"
    above = "above 1 dropped" if settings.drop_above_one else "above 1 kept"
    return f"{settings.definition}, {settings.order}, {number}, {above}, outliers above {settings.outlier_z}"


def _read_pool(path: Path | None) -> Pool | None:
    if path is None:
        return None
    try:
        return {(one.pop("scenario"), one.pop("template")): Spread(**one) for one in json.loads(path.read_text())}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is no pool") from error
