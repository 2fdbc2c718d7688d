"""`themis bench`: its flags, and the parts put together."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import importlib
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from themis_client import cli_security
from themis_client.aio import AsyncClient
from themis_client.bench import report
from themis_client.bench.run import INTERRUPTED, Bench, Display, Outcome
from themis_client.bench.shape import Shape, Words
from themis_client.cli_output import INSTALL, MissingExtra
from themis_client.options import MODES

NumberT = TypeVar("NumberT", int, float)

SUMMARY = "load a live server with items of a stated shape, and say how fast it was"
PICTURES = (".png", ".svg")
EPILOG = """\
how to use it:
  themis bench -s judge:50051 --callers 8 --items-per-call 16 --group-size 8
      closed loop: 8 trainers, each waiting for its answer before it sends the next call. Raise --callers until
      items/s no longer grows: that is the capacity, and the latency you pay for it.
  themis bench -s judge:50051 --rate 40 --duration 120 --picture run.png --out run.json
      open loop: 40 items/s whatever happens. Latency counts from when a call was due, so a server that falls behind
      shows it. Try 50 %, 70 % and 90 % of the capacity; size for the last one whose p99 you can live with.

lengths are in words, as this command writes them; the tokens that the judge counted are told with the results.
Each run sends texts that no other run sends, so that no cache answers in place of the judge.

exit codes: 0 all items were scored, 1 some were not, or nothing was measured, 2 wrong usage, 3 the server can't be
reached or refused
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    what = parser.add_argument_group("what is sent")
    what.add_argument("--prompt-words", type=_words, default=Words(100, 100), metavar="N|LOW-HIGH", help=_PROMPT)
    what.add_argument("--response-words", type=_words, default=Words(200, 200), metavar="N|LOW-HIGH", help=_RESPONSE)
    what.add_argument("--group-size", type=_count, default=1, metavar="N", help=_GROUP)
    what.add_argument(
        "--scenario", default="", help="as in `themis describe` (default: the judge classifies, and pays)"
    )
    what.add_argument("--mode", choices=list(MODES), default="rating", help="how to judge (default: %(default)s)")
    what.add_argument("--version", help="the judge version to ask for (default: the server's current one)")
    what.add_argument("--seed", type=int, default=0, metavar="N", help="of texts, lengths and times (%(default)s)")
    what.add_argument("--repeat-texts", action="store_true", help=_REPEAT)
    how = parser.add_argument_group("how it is sent")
    how.add_argument("--callers", type=_count, default=4, metavar="N", help=_CALLERS)
    how.add_argument("--items-per-call", type=_count, default=8, metavar="N", help=_PER_CALL)
    how.add_argument("--stream", action="store_true", help="one stream per caller in place of calls")
    how.add_argument("--rate", type=_positive, metavar="ITEMS/S", help=_RATE)
    how.add_argument("--in-flight", type=_count, default=64, metavar="N", help=_IN_FLIGHT)
    how.add_argument("--call-timeout", type=_positive, default=60.0, metavar="SECONDS", help=_TIMEOUT)
    how.add_argument("--no-retries", action="store_true", help="send everything once, and count refusals as failures")
    length = parser.add_argument_group("how long")
    measured = length.add_mutually_exclusive_group()
    measured.add_argument("--duration", type=_positive, metavar="SECONDS", help="how long is measured (default: 30)")
    measured.add_argument("--items", type=_count, metavar="N", help="measure so many items instead")
    length.add_argument("--warmup", type=_not_negative, default=3.0, metavar="SECONDS", help=_WARM_UP)
    out = parser.add_argument_group("what comes out")
    out.add_argument("--out", type=Path, metavar="FILE.json", help="everything, each item's times included")
    out.add_argument("--picture", type=_picture, metavar="FILE.png|svg", help=_DRAWN)


_DRAWN = "latencies, stages, items over time (needs the extra `plot`)"
_PROMPT = "words of each conversation (default: %(default)s)"
_RESPONSE = "words of each response (default: %(default)s)"
_GROUP = "responses per conversation, one after the other, as GRPO sends them (%(default)s)"
_REPEAT = "send the same texts in every run of the seed: caches may then answer"
_CALLERS = "independent clients (%(default)s)"
_PER_CALL = "items in a call, or in the air per stream in a closed loop (%(default)s)"
_RATE = "open loop: so many items a second, at random times; default: a closed loop"
_IN_FLIGHT = "calls, or items of a stream, that a caller has under way at most, with --rate (%(default)s)"
_TIMEOUT = "of a call, from when it was due; with --stream, of the wait for the last answers (%(default)g)"
_WARM_UP = "seconds of load before measuring begins (%(default)g)"


def run(args: argparse.Namespace) -> Outcome:
    """Loads the server, and tells. Raises MissingExtra before anything is sent, ThemisError, OSError."""
    terminal = _extra("terminal", "themis bench", INSTALL)
    picture = _extra("picture", "--picture", "pip install 'themis-sidecar[plot]'") if args.picture else None
    for path in (args.out, args.picture):
        _writable(path)
    with terminal.live(args.server) as display:
        outcome = asyncio.run(_measure(args, display))
    terminal.show(outcome, terminal.console())
    if args.out:
        report.write(outcome, args.out)
    if picture is not None:
        picture.draw(outcome, args.picture)
    return outcome


async def _measure(args: argparse.Namespace, display: Display) -> Outcome:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[str] = loop.create_future()

    def interrupted() -> None:
        loop.remove_signal_handler(signal.SIGINT)  # the next one ends the process as usual
        _stop(stop, INTERRUPTED)

    with contextlib.suppress(NotImplementedError):  # Windows: there Ctrl-C ends the command without figures
        loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.call_later(args.timeout, _stop, stop, f"--timeout {args.timeout:g}")
    make_client = functools.partial(cli_security.client, args, AsyncClient)
    return await Bench(args.server, shape_of(args), make_client, args.version).run(stop, display)


def shape_of(args: argparse.Namespace) -> Shape:
    duration_s = args.duration if args.duration or args.items else 30.0
    return Shape(
        prompt_words=args.prompt_words,
        response_words=args.response_words,
        group_size=args.group_size,
        callers=args.callers,
        items_per_call=args.items_per_call,
        rate=args.rate,
        in_flight=args.in_flight,
        duration_s=duration_s,
        items=args.items,
        warmup_s=args.warmup,
        timeout_s=args.call_timeout,
        scenario=args.scenario,
        mode=args.mode,
        stream=args.stream,
        retries=not args.no_retries,
        seed=args.seed,
        run="" if args.repeat_texts else f"{secrets.token_hex(4)}-",
    )


def _stop(stop: asyncio.Future[str], why: str) -> None:
    if not stop.done():
        stop.set_result(why)


def _extra(name: str, what: str, install: str) -> ModuleType:
    """A module of this package that imports what not everybody has."""
    try:
        return importlib.import_module(f"themis_client.bench.{name}")
    except ModuleNotFoundError as error:
        raise MissingExtra(f"{what} needs {(error.name or name).partition('.')[0]}: {install}") from error


def _writable(path: Path | None) -> None:
    """An hour of load is a bad time to find that its figures can't be written."""
    if path is not None:
        path.open("ab").close()


def _number(parse: Callable[[str], NumberT], fits: Callable[[NumberT], bool], wanted: str) -> Callable[[str], NumberT]:
    def read(text: str) -> NumberT:
        try:
            value = parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from error
        if not fits(value) or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return read


_count = _number(int, lambda value: value >= 1, "a whole number from 1 on")
_positive = _number(float, lambda value: value > 0, "a number above 0")
_not_negative = _number(float, lambda value: value >= 0, "a number from 0 on")


def _words(text: str) -> Words:
    try:
        return Words.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of words from 1 on, nor LOW-HIGH") from error


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r} ends neither in .png nor in .svg")
    return path
