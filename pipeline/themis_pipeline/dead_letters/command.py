"""`themis-pipeline dead-letters list|show|replay`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from themis_pipeline.config import KafkaConfig, PipelineConfig, add_settings
from themis_pipeline.dead_letters import showing
from themis_pipeline.dead_letters.board import Board, Summary, letter_in
from themis_pipeline.dead_letters.letters import REASONS, NotWhole
from themis_pipeline.dead_letters.replay import DoesNotFit, Guard, Returned, returned, send
from themis_pipeline.exits import BAD_INPUT, DIFFERENT, OK
from themis_pipeline.kafka.seam import Partition, Producer, Record
from themis_pipeline.topics.table import STAGES, dead_letter_topic, retry_topic
from themis_pipeline.topics.topic import Topic
from themis_proto.v1 import events_pb2 as ev

LIST_LIMIT = 100

LIST = "list what stages gave up and nobody replayed, oldest first; exits with 1 where there is any"
SHOW = "show one as JSON, the text of its record included, also after it was replayed"
REPLAY = (
    "Send records back to the stage that gave them up: to its own retry topic, which no other stage reads, as if they "
    "had never been tried. The record and the note that it went back are written together or not at all, so that each "
    "letter goes back once: a replay that was cut off, by whatever, can be asked for again, and what has gone back is "
    "passed over. Of two replays of one stage at the same time the later one ends the earlier. A letter that went back "
    "and is given up again is listed again, and can be replayed again. "
    "Exit codes: 0 all went back; 1 some were passed over, each with its reason; 2 nothing of that name, and nothing "
    "went back; 3 the brokers failed, what was told of until then went back."
)


class Reader(Protocol):
    def scan(self, topic: str) -> Iterator[Record]: ...

    def pick(self, places: Collection[tuple[Partition, int]]) -> Iterator[Record]: ...


@dataclass(frozen=True, slots=True)
class Brokers:
    """What the commands need of Kafka."""

    reader: Callable[[KafkaConfig], AbstractContextManager[Reader]]
    producer: Callable[[KafkaConfig, str], AbstractContextManager[Producer]]
    """By transactional id."""
    guard: Guard


class DeadLettersCommand:
    def __init__(self, brokers: Brokers, say: Callable[[str], None], complain: Callable[[str], None]) -> None:
        self._brokers = brokers
        self._say = say
        self._complain = complain

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(metavar="ACTION", required=True)
        listing = self._action(actions, "list", LIST, LIST, self._list)
        listing.add_argument("stages", nargs="*", metavar="STAGE", help="default: all")
        listing.add_argument("--limit", type=int, default=LIST_LIMIT, help=f"letters at most; default {LIST_LIMIT}")
        shown = self._action(actions, "show", SHOW, SHOW, self._show)
        shown.add_argument("stage", choices=STAGES, metavar="STAGE")
        shown.add_argument("id", metavar="ID")
        told = "write the record's value there, byte by byte; the file must not exist"
        shown.add_argument("--value-to", type=Path, metavar="FILE", help=told)
        told = "send records back to the stage that gave them up, each once"
        again = self._action(actions, "replay", told, REPLAY, self._replay)
        again.add_argument("stage", choices=STAGES, metavar="STAGE")
        again.add_argument("ids", nargs="*", metavar="ID", help="which ones; or --all")
        again.add_argument("--all", action="store_true", help="all that are open, or those of --reason")
        again.add_argument("--reason", choices=[reason.value for reason in REASONS], help="with --all")
        again.add_argument("--by", default="", help="who replays, for the record")
        again.add_argument("--why", default="", help="why, for the record")

    def _action(
        self,
        actions: argparse._SubParsersAction[argparse.ArgumentParser],
        name: str,
        told: str,
        described: str,
        run: Callable[[argparse.Namespace, PipelineConfig], int],
    ) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=told, description=described, allow_abbrev=False)
        read = add_settings(parser)
        parser.set_defaults(run=lambda args: run(args, read(args)))
        return parser

    # ------------------------------------------------------------ list

    def _list(self, args: argparse.Namespace, config: PipelineConfig) -> int:
        unknown = [stage for stage in args.stages if stage not in STAGES]
        if unknown or args.limit < 1:
            return self._refuse(f"no stage {', '.join(unknown)}" if unknown else "--limit: at least 1")
        rows: list[tuple[str, Summary]] = []
        sums: list[str] = []
        found = unreadable = 0
        with self._brokers.reader(config.kafka) as reader:
            for stage in dict.fromkeys(args.stages or STAGES):
                board = Board(_dead(config, stage)).read(reader.scan(_dead(config, stage).name))
                rows += [(stage, letter) for letter in board.oldest_first()[: args.limit - len(rows)]]
                sums += [showing.sums(stage, board)] if board.open else []
                found += len(board.open)
                unreadable += board.unreadable_count
                self._doubts(stage, board, args.limit)
        for line in (*showing.table(rows), *(sums if found > len(rows) else ())) if rows else ():
            self._say(line)
        self._say(f"{found} dead letters" + (f", {len(rows)} shown" if found > len(rows) else ""))
        return DIFFERENT if found or unreadable else OK

    def _doubts(self, stage: str, board: Board, limit: int) -> None:
        for place in board.unreadable[:limit]:
            self._complain(f"{place}: no dead letter")
        if board.unreadable_count > limit:
            self._complain(f"{stage}: {board.unreadable_count} such records, {limit} named")
        if board.not_held:
            self._complain(
                f"{stage}: {board.not_held} more came than can be held at a time, and are not counted; "
                "replay what is listed, and ask again"
            )

    # ------------------------------------------------------------ show

    def _show(self, args: argparse.Namespace, config: PipelineConfig) -> int:
        topic, asked = _dead(config, args.stage), {args.id}
        with self._brokers.reader(config.kafka) as reader:
            board = Board(topic, asked, only_asked=True).read(reader.scan(topic.name))
            replay = board.replays.get(args.id)
            letter = board.open.get(args.id) or (replay and replay.letter)
            if not letter:
                return self._refuse(f"{args.stage} has no dead letter {args.id}")
            (whole,) = _whole(reader, [letter], topic)
        if args.value_to is not None and (problem := _save(whole, args.value_to)):
            return self._refuse(problem)
        self._say(showing.whole(whole, replay))
        return OK

    # ------------------------------------------------------------ replay

    def _replay(self, args: argparse.Namespace, config: PipelineConfig) -> int:
        if bool(args.ids) == args.all or (args.reason and not args.all):
            return self._refuse("replay: either ids, or --all and perhaps --reason")
        if not (_encodable(args.by) and _encodable(args.why)):
            return self._refuse("--by, --why: no text in UTF-8")
        topic = _dead(config, args.stage)
        # The producer first: it ends what another replay of this stage had begun, so that both can't send one letter.
        # No stage has its id: none of their instances may be called so.
        transactional_id = f"{config.topics.prefix}{args.stage}-replay"
        with (
            self._brokers.producer(config.kafka, transactional_id) as producer,
            self._brokers.reader(config.kafka) as reader,
        ):
            board = Board(topic, frozenset(args.ids), only_asked=bool(args.ids)).read(reader.scan(topic.name))
            unknown = [one for one in args.ids if one not in board.open and one not in board.replays]
            if unknown:
                return self._refuse(f"{args.stage} has no dead letter {', '.join(unknown)}; nothing went back")
            for one, replay in board.replays.items():
                self._complain(showing.replayed(one, replay))
            self._doubts(args.stage, board, LIST_LIMIT)
            sent_all = self._send(args, config, producer, reader, _chosen(board, args.reason))
        return OK if sent_all and not board.replays and not board.not_held else DIFFERENT

    def _send(
        self,
        args: argparse.Namespace,
        config: PipelineConfig,
        producer: Producer,
        reader: Reader,
        chosen: Sequence[Summary],
    ) -> bool:
        dead, retry = _dead(config, args.stage), retry_topic(args.stage).placed(config.topics)
        sent = 0

        def back(letter: ev.DeadLetter) -> Returned | None:
            try:
                return returned(letter, retry, dead, args.by, args.why)
            except (NotWhole, DoesNotFit) as error:
                self._complain(f"{letter.id}: {error}")
                return None

        def done(count: int) -> None:
            nonlocal sent
            sent += count
            self._say(f"{sent} of {len(chosen)} are back on {retry.name}")

        letters = (letter for letter in map(back, _whole(reader, chosen, dead)) if letter is not None)
        send(producer, letters, config.kafka.request_timeout_s, self._brokers.guard, done)
        if not chosen:
            self._say("there is nothing to replay")
        return sent == len(chosen)

    def _refuse(self, why: str) -> int:
        self._complain(why)
        return BAD_INPUT


def _dead(config: PipelineConfig, stage: str) -> Topic:
    return dead_letter_topic(stage).placed(config.topics)


def _whole(reader: Reader, letters: Sequence[Summary], topic: Topic) -> Iterable[ev.DeadLetter]:
    for record in reader.pick([(letter.partition, letter.offset) for letter in letters]):
        found = letter_in(record, topic)
        assert isinstance(found, ev.DeadLetter)
        yield found


def _chosen(board: Board, reason: str | None) -> list[Summary]:
    return [letter for letter in board.oldest_first() if reason in (None, letter.reason)]


def _save(letter: ev.DeadLetter, file: Path) -> str | None:
    """What hindered it."""
    if not letter.HasField("value"):
        return f"{letter.id}: its value is not here, so that nothing is written to {file}"
    try:
        with file.open("xb") as opened:
            opened.write(letter.value)
    except OSError as error:
        return f"--value-to {file}: {error.strerror}"
    return None


def _encodable(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)
