"""Tasks out for people, as JSON lines and as CSV; their labels in.

CSV is for spreadsheets: what would be read as a formula there gets an apostrophe before it, in the file alone.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

from themis_pipeline.stages.convert import plain_text
from themis_pipeline.stages.errors import BadData
from themis_pipeline.stages.label import CHOICES
from themis_pipeline.stages.votes import BadLabel, check
from themis_proto.v1 import events_pb2 as ev

COLUMNS = (
    "task",
    "guidance",
    "criteria",
    "conversation",
    "reference",
    "response_a",
    "response_b",
    "annotator",
    "label",
    "comment",
)
NEEDED = ("task", "annotator", "label")
MAX_CELL_CHARS = 16 * 1024 * 1024
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_CHOICES = {name.casefold(): value for name, value in CHOICES.items()}


def row(task: ev.AnnotationTask) -> dict[str, str]:
    """What a person is shown. Raises Reject for what is no text."""
    told = task.instruction
    answers = ["\n\n".join(map(plain_text, one.response.messages)) for one in task.candidates]
    return {
        "task": task.id,
        "guidance": task.guidance,
        "criteria": "\n".join(f"{n}. {one.name}: {one.text}" for n, one in enumerate(task.criteria, 1)),
        "conversation": "\n\n".join(f"{message.role}: {plain_text(message)}" for message in told.messages),
        "reference": task.reference,
        "response_a": answers[0],
        "response_b": answers[1] if len(answers) > 1 else "",
        "annotator": "",
        "label": "",
        "comment": "",
    }


def write_jsonl(tasks: Iterable[ev.AnnotationTask], file: TextIO) -> None:
    for task in tasks:
        file.write(json.dumps(row(task), ensure_ascii=False) + "\n")


def write_csv(tasks: Iterable[ev.AnnotationTask], file: TextIO) -> None:
    """`file` is opened with newline=""."""
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for task in tasks:
        writer.writerow({name: _quoted(text) for name, text in row(task).items()})


def _quoted(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def read_jsonl(file: TextIO, tasks: Mapping[str, ev.AnnotationTask]) -> list[ev.AnnotationLabel]:
    """Lines as they were written, with annotator and label filled in. Raises BadData with the line's number."""
    return _read(_objects(file), tasks)


def read_csv(file: TextIO, tasks: Mapping[str, ev.AnnotationTask]) -> list[ev.AnnotationLabel]:
    """`file` is opened with newline="". Raises BadData with the row's number; the header is none."""
    limit = csv.field_size_limit(MAX_CELL_CHARS)  # its own is below what a conversation may have
    try:
        reader = csv.DictReader(file)
        missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise BadData(f"no columns {', '.join(missing)}: the first row names them, separated by commas")
        return _read(((f"row {number}", data) for number, data in enumerate(reader, 1)), tasks)
    except csv.Error as error:
        raise BadData(f"not readable as CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _objects(file: TextIO) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError:
            raise BadData(f"line {number}: no JSON") from None
        if not isinstance(data, dict):
            raise BadData(f"line {number}: no JSON object")
        yield f"line {number}", data


def _read(
    rows: Iterable[tuple[str, Mapping[str, object]]], tasks: Mapping[str, ev.AnnotationTask]
) -> list[ev.AnnotationLabel]:
    """Rows that nobody has touched, with neither annotator nor label, are passed over."""
    found: dict[tuple[str, str], ev.AnnotationLabel] = {}
    for where, data in rows:
        label = _label(data, where, tasks)
        if label is None:
            continue
        if (label.task, label.annotator) in found:
            raise BadData(f"{where}: a second label of one annotator for one task")
        found[label.task, label.annotator] = label
    return list(found.values())


def _label(data: Mapping[str, object], where: str, tasks: Mapping[str, ev.AnnotationTask]) -> ev.AnnotationLabel | None:
    told = {name: _cell(data.get(name), f"{where}: {name}") for name in (*NEEDED, "comment")}
    if told["task"] not in tasks:
        raise BadData(f"{where}: task: not one of those that were given out")
    if not told["annotator"] and not told["label"]:
        return None
    label = ev.AnnotationLabel(task=told["task"], annotator=told["annotator"], comment=told["comment"])
    if not told["label"]:
        label.skipped = True
    elif told["label"].isdecimal() and len(told["label"]) == 1:
        label.rating = int(told["label"])
    elif told["label"].casefold() in _CHOICES:
        label.preference = _CHOICES[told["label"].casefold()]
    else:
        raise BadData(f"{where}: label: a rating from 1 to 5, or A, B or tie, is expected")
    try:
        check(label, tasks[told["task"]])
    except BadLabel as error:
        raise BadData(f"{where}: {error}") from error
    return label


def _cell(value: object, where: str) -> str:
    """JSON may have the number itself; nothing and null are empty."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadData(f"{where}: a text is expected")
    return str(value).strip()
