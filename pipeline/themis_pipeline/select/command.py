"""`themis-pipeline select`: chooses from an archive, and says what was dropped and why."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_select(commands: Commands) -> None:
    """The command with its options; its `run` gives the exit code."""
    parser = commands.add_parser("select", help="choose records to train on from an archive")
    parser.add_argument("archive", help="a directory or an fsspec address")
    parser.add_argument("--out", type=Path, required=True, help="a folder that isn't there yet")
    parser.add_argument(
        "--definition", choices=("log_perplexity_ratio", "mean_loss_ratio"), default="log_perplexity_ratio"
    )
    parser.add_argument("--scorer", help="whose difficulties count, where the archive has several")
    parser.add_argument("--order", choices=("highest", "middle", "random"), default="highest")
    parser.add_argument("--keep-above-one", action="store_true", help="also what the prompt harms")
    parser.add_argument("--outlier-z", type=_bound, default=3.0, help='deviations above the median, or "none"')
    number = parser.add_mutually_exclusive_group()
    number.add_argument("--top", type=int, help="how many records")
    number.add_argument("--share", type=float, help="how large a part, in [0, 1]")
    parser.add_argument("--ratio", type=_ratio, action="append", default=[], metavar="SCENARIO=NUMBER")
    parser.add_argument(
        "--source-share", type=_bound, default=0.5, help='of what is kept, the most of one people-fed source, or "none"'
    )
    parser.add_argument(
        "--cap", type=_ratio, action="append", default=[], metavar="SOURCE=SHARE", help="the same for one source"
    )
    parser.add_argument("--similarity", type=_bound, default=0.8, help='of near-duplicates, or "none"')
    parser.add_argument("--keep-triggers", action="store_true", help="don't look for n-grams tied to one rating")
    parser.add_argument(
        "--keep-judge-lineage", action="store_true", help="also labels by the judge's own lineage: for demonstrations"
    )
    parser.add_argument("--pool", type=Path, help="an earlier selection's pool.json, to tell outliers by")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Loads what it takes, pyarrow, matplotlib and datasketch, when it is wanted alone."""
    from themis_pipeline.select.running import run

    return run(args)


def _bound(text: str) -> float | None:
    return None if text == "none" else float(text)


def _ratio(text: str) -> tuple[str, float]:
    scenario, _, number = text.partition("=")
    return scenario, float(number)
