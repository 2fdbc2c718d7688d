"""Dead letters as people read them: a table, and one letter whole.

Records hold what anybody wrote, and terminals obey what they are shown: whatever isn't printable is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from themis_pipeline.dead_letters.board import Board, Replay, Summary, moment_of, reason_of
from themis_pipeline.events.codec import decode
from themis_pipeline.events.errors import Malformed
from themis_pipeline.kafka.seam import Partition, Record
from themis_pipeline.topics.table import EVENTS
from themis_proto.v1 import events_pb2 as ev

HEADINGS = ("id", "stage", "reason", "error", "attempts", "bytes", "given up", "written", "from", "detail")
CELL_CHARS = 200
KINDS = 5
"""Reasons and errors of one stage that are named."""


def table(letters: Sequence[tuple[str, Summary]]) -> Iterable[str]:
    """Lines in columns, for letters with their stages."""
    rows = [HEADINGS, *(tuple(map(_cell, _row(stage, letter))) for stage, letter in letters)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def sums(stage: str, board: Board) -> str:
    """How many of a stage's letters are open, and what of."""
    kinds = board.kinds().most_common()
    told = [f"{count} {reason} ({_cell(error)})" for (reason, error), count in kinds[:KINDS]]
    others = sum(count for _, count in kinds[KINDS:])
    return f"{stage}: {', '.join([*told, *([f'{others} others'] if others else [])])}"


def whole(letter: ev.DeadLetter, replay: Replay | None = None) -> str:
    """JSON with everything that is known, the record's text included."""
    told: dict[str, Any] = {
        "id": letter.id,
        "stage": letter.stage,
        "reason": reason_of(letter),
        "error": letter.error,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "from": f"{letter.topic}/{letter.partition}/{letter.offset}",
        "written_at": _time(letter),
        "replayed": None if replay is None else {"at": _iso(replay), "by": replay.by, "why": replay.why},
        "key": _text(letter.key) if letter.HasField("key") else None,
        "headers": [[one.key, _text(one.value) if one.HasField("value") else None] for one in letter.headers],
    }
    if letter.left_out_bytes:
        told["left_out"] = {"bytes": letter.left_out_bytes, "sha256": letter.left_out_sha256.hex()}
    if letter.HasField("value"):
        told["bytes"], told["sha256"] = len(letter.value), hashlib.sha256(letter.value).hexdigest()
    told["value"] = _value(letter)
    return printable(json.dumps(told, ensure_ascii=False, indent=1))


def replayed(letter_id: str, replay: Replay) -> str:
    """That there is nothing to replay any more."""
    by, why = (f" by {_cell(replay.by)}" if replay.by else ""), (f" ({_cell(replay.why)})" if replay.why else "")
    return (
        f"{letter_id}: went back at {_iso(replay)}{by}{why} and is passed over; "
        "should its stage give it up again, it is listed again"
    )


def printable(text: str) -> str:
    """As JSON escapes it; lines stay."""
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def _cell(text: str) -> str:
    left = len(text) - CELL_CHARS
    return printable(text.replace("\n", " ") if left <= 0 else f"{text[:CELL_CHARS]}...".replace("\n", " "))


def _row(stage: str, letter: Summary) -> tuple[str, ...]:
    given_up, written = (
        "-" if one is None else one.isoformat(timespec="seconds") for one in (letter.given_up_at, letter.written_at)
    )
    numbers = str(letter.attempts), str(letter.size_bytes)
    return letter.id, stage, letter.reason, letter.error, *numbers, given_up, written, letter.source, letter.detail


def _time(letter: ev.DeadLetter) -> str | None:
    if not letter.HasField("written_at") or moment_of(letter.written_at) is None:
        return None
    return letter.written_at.ToJsonString()


def _iso(replay: Replay) -> str:
    return "a time that isn't known" if replay.at is None else replay.at.isoformat(timespec="seconds")


def _value(letter: ev.DeadLetter) -> object:
    """The event in the value where there is one."""
    if not letter.HasField("value"):
        return None
    headers = tuple((one.key, one.value if one.HasField("value") else None) for one in letter.headers)
    record = Record(Partition(letter.topic, letter.partition), letter.offset, None, letter.value, headers)
    kinds = list(dict.fromkeys(kind for topic in EVENTS for kind in topic.events))
    try:
        event = decode(record, kinds, len(letter.value))
        told: dict[str, object] = {"message": event.DESCRIPTOR.name, "event": json_format.MessageToDict(event)}
    except (Malformed, json_format.SerializeToJsonError):  # the latter for a time that is none
        return _text(letter.value)
    if unknown := _unknown_bytes(event):
        told["unknown_fields_bytes"] = unknown
    return told


def _unknown_bytes(event: Message) -> int:
    """What a later release wrote, and this one can't name."""
    known = type(event)()
    known.CopyFrom(event)
    known.DiscardUnknownFields()
    return event.ByteSize() - known.ByteSize()


def _text(data: bytes) -> str | dict[str, str]:
    """As text where it is text, so that nothing is shown as what it isn't."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}
