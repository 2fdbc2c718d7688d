"""`themis-pipeline`: its commands, and what each is made of."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from pydantic import ValidationError
from pydantic_settings import SettingsError

from themis_pipeline.annotation.command import AnnotateCommand
from themis_pipeline.archive.command import add_archive
from themis_pipeline.dead_letters.command import Brokers, DeadLettersCommand
from themis_pipeline.exits import BAD_INPUT, NO_BROKER
from themis_pipeline.kafka.admin import open_admin
from themis_pipeline.kafka.errors import BrokerError
from themis_pipeline.kafka.seam import TransportError
from themis_pipeline.kafka.tools import open_producer, open_reader
from themis_pipeline.runner.watchdog import Watchdog
from themis_pipeline.running.command import RunCommand
from themis_pipeline.select.command import add_select
from themis_pipeline.topics.command import TopicsCommand

say = partial(print, flush=True)


def complain(problem: str) -> None:
    sys.stderr.write(f"themis-pipeline: {problem}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; argparse itself exits with 2."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except ValidationError as error:
        return _complain(BAD_INPUT, *(_problem(problem["loc"], problem["msg"]) for problem in error.errors()))
    except SettingsError as error:
        return _complain(BAD_INPUT, str(error))
    except (BrokerError, TransportError) as error:
        return _complain(NO_BROKER, f"the brokers: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="themis-pipeline",
        description="Makes training data for the judge, by Kafka.",
        epilog="Each setting of a command is also an environment variable (THEMIS_PIPELINE_TOPICS__PREFIX for "
        "--topics.prefix) and a key of the configuration file. Flags go before environment, environment before file. "
        "Exit codes: 0 done; 1 done, but something isn't as it should be; 2 wrong usage or settings; 3 no broker; "
        "`run` has more, which its help tells.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    TopicsCommand(open_admin, say).add_to(commands.add_parser("topics", help="make the topics, or check them"))
    letters = commands.add_parser("dead-letters", help="list what stages gave up, show it, or send it back to them")
    brokers = Brokers(open_reader, open_producer, guarded)
    DeadLettersCommand(brokers, say, complain).add_to(letters)
    people = commands.add_parser("annotate", help="give out what people are to label, and take their labels")
    AnnotateCommand(brokers, say, complain).add_to(people)
    RunCommand(open_admin, complain).add_to(commands.add_parser("run", help="run stages", allow_abbrev=False))
    add_archive(commands)
    add_select(commands)
    return parser


@contextmanager
def guarded(name: str, limit_s: float) -> Iterator[None]:
    """A watchdog for one block."""
    watchdog = Watchdog()
    watchdog.start()
    try:
        with watchdog.guard(name, limit_s):
            yield
    finally:
        watchdog.stop()


def _problem(place: tuple[int | str, ...], text: str) -> str:
    """What concerns several sections at once has no place of its own, and names them."""
    told = text.removeprefix("Value error, ")
    return f"{'.'.join(map(str, place))}: {told}" if place else told


def _complain(code: int, *problems: str) -> int:
    for problem in problems:
        complain(problem)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
