"""The flags of `themis label-pairs`, and what they come to together."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from themis_client.errors import BadRequest
from themis_client.options import MODES, ModeName, ScoreOptions
from themis_client.pairs.choice import Choice
from themis_client.pairs.source import PARQUET
from themis_client.tournament import Tournament

NumberT = TypeVar("NumberT", int, float)

SUMMARY = "turn prompts with several responses into pairs for DPO"
OUTPUTS = (".jsonl", PARQUET)
DAY_S = 86400.0
ANY_PAIRS = 10
EPILOG = """\
input, one JSON object a line, or a Parquet file with these columns:
  {"prompt": "...", "responses": ["...", "..."]}
  and optionally "reference", "scenario", "id"
  A prompt may be a list of messages (role, content); its responses are then texts or lists of messages.

output: prompt, chosen, rejected, margin and where they come from, as TRL's DPOTrainer reads it through
  datasets.load_dataset("json", data_files=...) or ("parquet", ...). Beside it:
  OUT.journal.jsonl  what was judged so far; --resume goes on from it, and judges again what failed for a while only
  OUT.failed.jsonl   prompts without a pair because the judge had no score for a response, or that could not be read

exit codes:
  0  every prompt was judged
  1  some failed; the pairs of the others were written
  2  wrong usage or input
  3  the server can't be reached, or refused, or 20 prompts in a row came to nothing; what was judged is kept
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.set_defaults(format="table", timeout=DAY_S)
    parser.add_argument("file", type=Path, metavar="FILE", help="JSON lines, or Parquet if its name ends in .parquet")
    parser.add_argument("-o", "--output", type=_output, required=True, metavar="OUT.jsonl|OUT.parquet", help=_OUTPUT)
    how = parser.add_argument_group("how it is judged")
    how.add_argument("--by", choices=("score", "compare"), default="score", help=_BY)
    how.add_argument("--mode", choices=list(MODES), help="how to judge by score (default: rating)")
    how.add_argument("--rounds", type=_count, metavar="N", help=_ROUNDS)
    how.add_argument("--seed", type=int, metavar="N", help="of who meets whom, with --rounds (default: 0)")
    how.add_argument("--version", help="the judge version that must be used (default: the server's current one)")
    which = parser.add_argument_group("which pairs are written")
    which.add_argument("--pairs", choices=("best-worst", "all"), default="best-worst", help=_PAIRS)
    which.add_argument("--pairs-per-prompt", type=_count, metavar="N", help=_MOST)
    which.add_argument("--min-margin", type=_share, default=0.0, metavar="X", help=_MARGIN)
    which.add_argument("--ties", choices=("drop", "keep"), default="drop", help=_TIES)
    running = parser.add_argument_group("how it runs")
    again = running.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the journal beside OUT, if there is one")
    again.add_argument("--overwrite", action="store_true", help="replace OUT and its journal")
    running.add_argument("--window", type=_count, default=32, metavar="N", help=_WINDOW)
    running.add_argument("--call-timeout", type=_positive, default=300.0, metavar="SECONDS", help=_TIMEOUT)


_OUTPUT = "the file of pairs; it appears when all is judged"
_BY = "rate each response, or compare them with each other in both orders (default: %(default)s)"
_ROUNDS = "by compare: each response meets N others (default: all)"
_PAIRS = "the best response of a prompt with its worst, or every two (default: %(default)s)"
_MOST = f"with --pairs all: so many of a prompt at most, the widest margins first (default: {ANY_PAIRS})"
_MARGIN = "a pair whose scores (0 to 1) differ by less is a tie (default: %(default)g, where only equals are)"
_TIES = "leave ties out, or write them, marked in the column `tie` (default: %(default)s)"
_WINDOW = "prompts under way at most, fewer if they come to 8 N prefills (default: %(default)s)"
_TIMEOUT = "for one prompt, retries included (%(default)g)"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the flags ask for. tournament: None where responses are rated one by one."""

    mode: ModeName
    tournament: Tournament | None
    choice: Choice

    @property
    def options(self) -> ScoreOptions:
        return ScoreOptions(mode=MODES[self.mode]())

    @property
    def by(self) -> str:
        return "score" if self.tournament is None else "compare"

    @property
    def kept(self) -> Mapping[str, Any]:
        """What changes the result, by the names of the flags, for the journal."""
        by_score, tournament = self.tournament is None, self.tournament or Tournament()
        return {
            "by": self.by,
            "mode": self.mode if by_score else None,
            "rounds": tournament.rounds,
            "seed": tournament.seed,
            "pairs": self.choice.which,
            "pairs-per-prompt": self.choice.most,
            "min-margin": self.choice.min_margin,
            "ties": "keep" if self.choice.keep_ties else "drop",
        }

    @classmethod
    def of(cls, args: argparse.Namespace) -> Plan:
        """Raises BadRequest for flags that don't go together: one that does nothing was meant to do something."""
        comparing = args.by == "compare"
        for name, there, other in (
            ("--mode", args.mode is not None and comparing, "--by score"),
            ("--rounds", args.rounds is not None and not comparing, "--by compare"),
            ("--seed", args.seed is not None and args.rounds is None, "--rounds"),
            ("--pairs-per-prompt", args.pairs_per_prompt is not None and args.pairs != "all", "--pairs all"),
        ):
            if there:
                raise BadRequest(f"{name} goes with {other}")
        most = 1 if args.pairs == "best-worst" else args.pairs_per_prompt or ANY_PAIRS
        return cls(
            args.mode or "rating",
            Tournament(args.rounds, args.seed or 0) if comparing else None,
            Choice(args.pairs, args.min_margin, args.ties == "keep", most),
        )


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix not in OUTPUTS:
        raise argparse.ArgumentTypeError(f"{text!r} ends neither in .jsonl nor in .parquet")
    return path


def _number(parse: Callable[[str], NumberT], fits: Callable[[NumberT], bool], wanted: str) -> Callable[[str], NumberT]:
    def read(text: str) -> NumberT:
        try:
            value = parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from error
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return read


_count = _number(int, lambda value: value >= 1, "a whole number from 1 on")
_share = _number(float, lambda value: 0 <= value <= 1, "a number from 0 to 1")
_positive = _number(float, lambda value: 0 < value < float("inf"), "a number of seconds above 0")
