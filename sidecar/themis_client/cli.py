"""The `themis` command: scores and compares what stands in JSON lines, makes pairs for DPO, says what a server judges
with, loads it, and manages judge versions."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from themis_client import cli_output, cli_security, encode
from themis_client.bench import command as bench_command
from themis_client.cli_input import Line, read_lines
from themis_client.cli_layouts import COMPARISONS, SCORES
from themis_client.cli_versions import VersionCommands
from themis_client.client import Client
from themis_client.description import Description
from themis_client.errors import BadRequest, DeadlineExceeded, ThemisError, UnknownVersion
from themis_client.failure import Failure, Status
from themis_client.items import Comparison, Item
from themis_client.options import MODES, CompareOptions, ScoreOptions
from themis_client.pairs import flags as pairs_flags
from themis_client.pairs.command import LabelPairs
from themis_client.results import Compared, Score
from themis_client.retry import RetryPolicy

ItemT = TypeVar("ItemT")

OK, SOME_FAILED, BAD_INPUT, NO_SERVER = 0, 1, 2, 3

SERVER_VARIABLE = "THEMIS_SERVER"
DEFAULT_SERVER = "localhost:50051"
DEFAULT_TIMEOUT_S = 3600.0
RETRY = RetryPolicy(attempts=4)
"""A person who waits wants to know soon that there is no server."""

FORMATS = ("table", "jsonl", "parquet")
EPILOG = f"""\
exit codes:
  {OK}  everything was judged
  {SOME_FAILED}  some items failed; the others were judged and written
  {BAD_INPUT}  wrong usage or input: nothing could be read, or the server does not know what was asked for
  {NO_SERVER}  the server can't be reached, or refused

input, one JSON object a line:
  score    {{"messages": [{{"role": "user", "content": "..."}}], "response": "..."}}
           and optionally "reference", "scenario", "rubric", "key", "group"
  compare  the same with "response_a" and "response_b"; no "group"
  Messages may be OpenAI's (role, content) or the contract's (role, parts).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; argparse itself exits with 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no bars still gets the numbers
    parser = _parser()
    args = parser.parse_args(argv)
    if args.format == "parquet" and args.output is None:
        parser.error("--format parquet needs -o OUT")
    try:
        cli_output.need(args.format)
        return int(args.run(args))
    except (BadRequest, UnknownVersion, cli_output.MissingExtra, OSError) as error:
        return _say(str(error), BAD_INPUT)
    except ThemisError as error:
        return _say(f"{args.server}: {type(error).__name__}: {error}", NO_SERVER)


def score(args: argparse.Namespace) -> int:
    """Scores a file."""
    lines = read_lines(args.file, _item)
    if not _any_readable(lines):
        return _say(f"nothing to score in {args.file}", BAD_INPUT)
    options = ScoreOptions(mode=MODES[args.mode](), version=args.version, return_prompt=args.show_prompt)
    with _client(args) as client:
        results = _score(client, lines, options)
    cli_output.write(results, SCORES, args.format, args.output)
    return _sum_up(results)


def compare(args: argparse.Namespace) -> int:
    """Compares the pairs in a file."""
    lines = read_lines(args.file, _comparison)
    if not _any_readable(lines):
        return _say(f"nothing to compare in {args.file}", BAD_INPUT)
    options = CompareOptions(version=args.version, return_prompt=args.show_prompt)
    with _client(args) as client:
        pairs = _items(lines)
        compared = iter(client.compare(pairs, options=options))
    results: list[Compared | Failure] = [
        line.item if isinstance(line.item, Failure) else next(compared) for line in lines
    ]
    cli_output.write(results, COMPARISONS, args.format, args.output)
    return _sum_up(results)


def describe(args: argparse.Namespace) -> int:
    """Says what the server judges with."""
    with _client(args) as client:
        description = client.describe()
    _show(description)
    return OK


def bench(args: argparse.Namespace) -> int:
    """Loads the server, and says how fast it was."""
    outcome = bench_command.run(args)
    if outcome.error is not None:
        return _say(f"{args.server}: {outcome.stopped}", NO_SERVER)
    return OK if outcome.summary.all_ok else SOME_FAILED


def label_pairs(args: argparse.Namespace) -> int:
    """Turns prompts with several responses into pairs for DPO."""
    labelling = LabelPairs(args, lambda text: _say(text, SOME_FAILED))
    try:
        summary = labelling.run()
    except BadRequest:
        raise
    except (ThemisError, OSError, KeyboardInterrupt):
        if labelling.journal.exists():
            _say(f"what was judged is in {labelling.journal}; --resume goes on from there", NO_SERVER)
        raise
    if summary is None:
        return _say(f"nothing to label in {args.file}", BAD_INPUT)
    cli_output.table(("label-pairs", str(args.output)), summary.table(args.ties == "keep"), sys.stdout)
    if not summary.failed:
        return OK
    again = f"; --resume tries {summary.retryable} of them again" if summary.retryable else ""
    told = f"{summary.failed.total()} of {summary.prompts} prompts failed, see {labelling.failures}{again}"
    return _say(told, SOME_FAILED)


def _score(client: Client, lines: Sequence[Line[Item]], options: ScoreOptions) -> list[Score | Failure]:
    items = _items(lines)
    found: dict[int, Score | Failure] = {}
    with cli_output.progress(len(items)) as advance:
        try:
            for index, result in client.stream(items, options=options):
                found[index] = result
                advance()
        except DeadlineExceeded:
            if not found:
                raise
    late = Failure(Status.DEADLINE_EXCEEDED, "the time ran out before it was sent")
    scored = iter([found.get(index, late) for index in range(len(items))])
    return [line.item if isinstance(line.item, Failure) else next(scored) for line in lines]


def _show(description: Description) -> None:
    limits = description.limits
    print(f"themis-sidecar {description.software_version}, current version {description.current}")
    print(f"a call takes {limits.max_items} items and {limits.max_deadline_s:g} s at most")
    print()
    versions = [
        (one.id, one.engine, one.base_model, one.dtype, str(one.context_tokens), one.data_order, one.verdict_order)
        for one in description.versions
    ]
    headers = ("version", "engine", "base model", "dtype", "context", "data order", "verdict order")
    cli_output.table(headers, versions, sys.stdout)
    print()
    scenarios = [(one.id, one.name, str(len(one.criteria)), one.definition) for one in description.scenarios]
    cli_output.table(("scenario", "name", "criteria", "definition"), scenarios, sys.stdout)


def _item(value: Mapping[str, Any]) -> Item:
    item = Item.from_dict(value)
    encode.item(item)  # what can't be sent is found here, where its line is known
    return item


def _comparison(value: Mapping[str, Any]) -> Comparison:
    pair = Comparison.from_dict(value)
    encode.comparison(pair)
    return pair


def _items(lines: Sequence[Line[ItemT]]) -> list[ItemT]:
    return [line.item for line in lines if not isinstance(line.item, Failure)]


def _any_readable(lines: Sequence[Line[ItemT]]) -> bool:
    """Reports every line that could not be read, in the order of the file."""
    for line in lines:
        if isinstance(line.item, Failure):
            _say(line.item.error, BAD_INPUT)
    return bool(_items(lines))


def _client(args: argparse.Namespace) -> Client:
    return cli_security.client(args, Client, timeout_s=args.timeout, retry=RETRY)


def _sum_up(results: Sequence[object]) -> int:
    failed = sum(isinstance(result, Failure) for result in results)
    if not failed:
        return OK
    return _say(f"{failed} of {len(results)} items failed", SOME_FAILED)


def _say(text: str, code: int) -> int:
    print(f"themis: {text}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="themis", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    scoring = _command(commands, "score", "score the responses in a file", score)
    scoring.add_argument("--mode", choices=list(MODES), default="rating", help="how to judge (default: %(default)s)")
    comparing = _command(commands, "compare", "compare two responses each", compare)
    for command in (scoring, comparing):
        _add_file_arguments(command)
    _command(commands, "describe", "show versions, scenarios and limits", describe).set_defaults(format="table")
    VersionCommands(_client, print).add(commands, _command)
    labelling = _command(commands, "label-pairs", pairs_flags.SUMMARY, label_pairs)
    pairs_flags.add_arguments(labelling)
    benching = _command(commands, "bench", bench_command.SUMMARY, bench)
    bench_command.add_arguments(benching)
    benching.set_defaults(format="table")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.set_defaults(run=run)
    server = os.environ.get(SERVER_VARIABLE, DEFAULT_SERVER)
    command.add_argument(
        "-s",
        "--server",
        metavar="HOST:PORT",
        default=server,
        help="one address, several with commas, or dns:///name:port "
        f"(default: ${SERVER_VARIABLE}, else {DEFAULT_SERVER})",
    )
    command.add_argument(
        "--timeout", type=_seconds, default=DEFAULT_TIMEOUT_S, metavar="SECONDS", help="for the whole run (%(default)g)"
    )
    cli_security.add_arguments(command, os.environ)
    return command


def _add_file_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE.jsonl", help='JSON lines; "-" is standard input')
    command.add_argument("--version", help="the judge version that must be used (default: the server's current one)")
    command.add_argument(
        "--format", choices=FORMATS, default="table", help="of the output (default: %(default)s); parquet needs -o"
    )
    command.add_argument("-o", "--output", metavar="OUT", help="a file (default: standard output)")
    command.add_argument("--show-prompt", action="store_true", help="show what the judge was given")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
