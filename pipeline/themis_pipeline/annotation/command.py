"""`themis-pipeline annotate export|import|report`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from themis_pipeline.annotation.reading import Labels, TooManyLabels, Topics, task_in
from themis_pipeline.annotation.standing import Standing
from themis_pipeline.config import PipelineConfig, TopicsConfig, add_settings
from themis_pipeline.dead_letters.command import Brokers, Reader
from themis_pipeline.events.codec import encode
from themis_pipeline.events.errors import TooLarge
from themis_pipeline.exits import BAD_INPUT, DIFFERENT, OK
from themis_pipeline.kafka.seam import Output, Producer
from themis_pipeline.stages import sheets
from themis_pipeline.stages.errors import BadData
from themis_pipeline.topics import ANNOTATION_LABELS, ANNOTATION_TASKS
from themis_pipeline.topics.topic import Topic
from themis_proto.v1 import events_pb2 as ev

BATCH = 200
"""Labels of one transaction."""


def placed(config: TopicsConfig) -> Topics:
    return Topics(ANNOTATION_TASKS.placed(config), ANNOTATION_LABELS.placed(config))


class AnnotateCommand:
    def __init__(self, brokers: Brokers, say: Callable[[str], None], complain: Callable[[str], None]) -> None:
        self._brokers = brokers
        self._say = say
        self._complain = complain

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(metavar="ACTION", required=True)
        told = "write the tasks that wait for labels into a file for people: JSON lines, or CSV for spreadsheets"
        out = self._action(actions, "export", told, self._export)
        out.add_argument("file", type=Path, metavar="FILE", help="a new file, .jsonl or .csv")
        out.add_argument("--all", action="store_true", help="also tasks that have enough labels")
        told = "send what people filled in to the pipeline; what it has already isn't sent again"
        back = self._action(actions, "import", told, self._import)
        back.add_argument("files", type=Path, nargs="+", metavar="FILE", help=".jsonl or .csv, as they were exported")
        self._action(actions, "report", "say how far people are, and how far they agree", self._report)

    def _action(
        self,
        actions: argparse._SubParsersAction[argparse.ArgumentParser],
        name: str,
        told: str,
        run: Callable[[argparse.Namespace, PipelineConfig], int],
    ) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=told, description=told, allow_abbrev=False)
        read = add_settings(parser)
        parser.set_defaults(run=lambda args: self._safely(run, args, read(args)))
        return parser

    def _safely(
        self, run: Callable[[argparse.Namespace, PipelineConfig], int], args: argparse.Namespace, config: PipelineConfig
    ) -> int:
        try:
            return run(args, config)
        except BadData as error:
            return self._refuse(str(error))
        except OSError as error:
            return self._refuse(f"{error.filename}: {error.strerror}")
        except TooManyLabels as error:
            self._complain(str(error))
            return DIFFERENT

    # ------------------------------------------------------------ export

    def _export(self, args: argparse.Namespace, config: PipelineConfig) -> int:
        _check_kind(args.file)
        with self._brokers.reader(config.kafka) as reader, _new(args.file) as file:
            standing = Standing(_labels(reader, config))
            count = 0

            def shown() -> Iterator[ev.AnnotationTask]:
                nonlocal count
                for task in self._tasks(reader, config):
                    if args.all or not standing.add(task).enough:
                        count += 1
                        yield task

            write = sheets.write_csv if _is_csv(args.file) else sheets.write_jsonl
            write(shown(), file)
        self._say(f"{args.file}: {count} tasks")
        return OK

    def _tasks(self, reader: Reader, config: PipelineConfig) -> Iterator[ev.AnnotationTask]:
        """Each once."""
        seen: set[str] = set()
        topic = placed(config.topics).tasks
        for record in reader.scan(topic.name):
            task = task_in(record, topic)
            if task.id not in seen:
                seen.add(task.id)
                yield task

    # ------------------------------------------------------------ import

    def _import(self, args: argparse.Namespace, config: PipelineConfig) -> int:
        for path in args.files:
            _check_kind(path)
        # The producer first: it ends what another import had begun, so that both can't send one label.
        with (
            self._brokers.producer(config.kafka, f"{config.topics.prefix}annotate-import") as producer,
            self._brokers.reader(config.kafka) as reader,
        ):
            tasks = {task.id: task for task in self._tasks(reader, config)}
            given = [label for path in args.files for label in _filled_in(path, tasks)]
            held = [one.label for placed_labels in _labels(reader, config).by_task.values() for one in placed_labels]
            last = {(label.task, label.annotator): label for label in held}
            new = [label for label in given if last.get((label.task, label.annotator)) != label]
            outputs = [_output(label, placed(config.topics).labels) for label in new]
            self._send(producer, outputs, config.kafka.request_timeout_s)
        self._say(f"{len(new)} labels sent, {len(given) - len(new)} were there already")
        return OK

    def _send(self, producer: Producer, outputs: Sequence[Output], timeout_s: float) -> None:
        for start in range(0, len(outputs), BATCH):
            with self._brokers.guard("annotate-import", 3 * timeout_s):
                producer.begin()
                sent = [producer.send(output) for output in outputs[start : start + BATCH]]
                producer.flush(timeout_s)
                for one in sent:
                    one.wait(timeout_s)
                producer.commit()

    # ------------------------------------------------------------ report

    def _report(self, args: argparse.Namespace, config: PipelineConfig) -> int:
        with self._brokers.reader(config.kafka) as reader:
            labels = _labels(reader, config)
            standing = Standing(labels)
            for task in self._tasks(reader, config):
                standing.add(task)
        for line in standing.lines():
            self._say(line)
        if labels.unreadable:
            self._complain(f"{labels.unreadable} records are no labels; the stage `annotate` made dead letters of them")
        return DIFFERENT if labels.unreadable or standing.apart else OK

    def _refuse(self, why: str) -> int:
        self._complain(why)
        return BAD_INPUT


@contextmanager
def _new(path: Path) -> Iterator[TextIO]:
    """Gone again where it can't be written as a whole."""
    with path.open("x", encoding="utf-8", newline="") as file:
        try:
            yield file
        except BaseException:
            path.unlink()
            raise


def _is_csv(path: Path) -> bool:
    return path.suffix == ".csv"


def _check_kind(path: Path) -> None:
    if path.suffix not in (".csv", ".jsonl"):
        raise BadData(f"{path}: its name ends neither in .csv nor in .jsonl")


def _labels(reader: Reader, config: PipelineConfig) -> Labels:
    topic = placed(config.topics).labels
    return Labels(topic).read(reader.scan(topic.name))


def _filled_in(path: Path, tasks: Mapping[str, ev.AnnotationTask]) -> Iterable[ev.AnnotationLabel]:
    # Spreadsheets put a mark before the first column's name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            return sheets.read_csv(file, tasks) if _is_csv(path) else sheets.read_jsonl(file, tasks)
        except UnicodeDecodeError as error:
            raise BadData(f"{path}: it isn't UTF-8") from error
        except BadData as error:
            raise BadData(f"{path}: {error}") from error


def _output(label: ev.AnnotationLabel, topic: Topic) -> Output:
    try:
        value, headers = encode(label, topic.max_event_bytes)
    except TooLarge as error:
        raise BadData(f"task {label.task}: {error}") from error
    return Output(topic.name, topic.key_of(label), value, headers)
