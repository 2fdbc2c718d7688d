from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pipeline.events_records import texts
from themis_pipeline.dead_letters.board import Board, letter_in
from themis_pipeline.dead_letters.letters import REASONS, Burial, NotWhole, delivery
from themis_pipeline.dead_letters.replay import DoesNotFit, returned
from themis_pipeline.dead_letters.replays import counted
from themis_pipeline.dead_letters.showing import sums, table
from themis_pipeline.dead_letters.showing import whole as whole_of
from themis_pipeline.events.codec import encode
from themis_pipeline.events.ids import dead_letter
from themis_pipeline.kafka.seam import Output, Partition, Record
from themis_pipeline.runner.retries import OURS, Retries
from themis_pipeline.runner.stage import DeadRecord, Delivery, Malformed, Origin, Reason, Reject
from themis_pipeline.topics import dead_letter_topic, retry_topic
from themis_proto.v1.events_pb2 import DeadLetter, Instruction

DEAD, RETRY = dead_letter_topic("label"), retry_topic("label")
PLACE = Partition("response-sets", 3)

headers = st.lists(st.tuples(texts | st.sampled_from(sorted(OURS)), st.none() | st.binary(max_size=8)), max_size=4).map(
    tuple
)


@st.composite
def dead_records(draw: st.DrawFn) -> DeadRecord:
    offset, written_at_ms = draw(st.integers(0, 2**60)), draw(st.just(-1) | st.integers(0, 2**41))
    value = draw(st.none() | st.binary(max_size=200))
    record = Record(PLACE, offset, draw(st.none() | st.binary(max_size=8)), value, draw(headers), -1, written_at_ms)
    return dead(record, draw(st.sampled_from(Reason)), draw(st.integers(1, 99)))


def dead(record: Record, reason: Reason = Reason.EXHAUSTED, attempts: int = 5) -> DeadRecord:
    origin = Origin(record.partition, record.offset, record.written_at_ms)
    return DeadRecord("label", reason, "TimeoutError", "", attempts, Delivery(record, origin))


def a_record(value: bytes | None = b"set", offset: int = 7) -> Record:
    return Record(PLACE, offset, b"k", value, (("themis-message", b"ResponseSet"), ("x", None)), -1, 1_700_000_000_000)


def on_topic(output: Output, offset: int = 0) -> Record:
    return Record(Partition(output.topic, 0), offset, output.key, output.value, output.headers)


def letter_of(output: Output) -> DeadLetter:
    letter = letter_in(on_topic(output), DEAD)
    assert isinstance(letter, DeadLetter)
    return letter


@given(dead_records())
@settings(deadline=None)
def test_a_record_comes_back_byte_by_byte(given_up: DeadRecord) -> None:
    output = Burial(DEAD)(given_up)
    letter = letter_of(output)
    record = given_up.delivery.record
    assert (output.topic, output.key) == ("label-dead", dead_letter("label", *PLACE, record.offset).encode())
    assert (letter.stage, letter.reason, letter.attempts) == ("label", REASONS[given_up.reason], given_up.attempts)
    if record.value is None:
        with pytest.raises(NotWhole, match="no value"):
            delivery(letter)
    else:
        assert delivery(letter) == replace(given_up.delivery)


@given(dead_records().filter(lambda given_up: given_up.delivery.record.value is not None))
@settings(deadline=None)
def test_its_stage_gets_it_as_for_the_first_time(given_up: DeadRecord) -> None:
    record, marker = returned(letter_of(Burial(DEAD)(given_up)), RETRY, DEAD, "me", "mended").outputs
    assert record.topic == "label-retry"
    assert (marker.topic, marker.key) == ("label-dead", letter_of(Burial(DEAD)(given_up)).id.encode())
    runner = Retries("label", RETRY.name, Burial(DEAD))
    again = runner.delivery(on_topic(record))
    first = given_up.delivery
    assert (again.failures, again.postponed, again.not_before_ms) == (0, 0, 0)
    assert again.origin == first.origin
    assert (again.record.key, again.record.value) == (first.record.key, first.record.value)
    # And one more, by which a stage knows that it may ask its models anew.
    assert again.record.headers == counted(first.record.headers)


def test_what_no_topic_takes_is_left_out_and_said_so() -> None:
    value = b"v" * 2000
    letter = letter_of(Burial(replace(DEAD, max_event_bytes=1000))(dead(a_record(value))))
    assert not letter.HasField("value")
    assert (letter.left_out_bytes, letter.left_out_sha256) == (2000, hashlib.sha256(value).digest())
    assert (letter.key, len(letter.headers)) == (b"k", 2)
    with pytest.raises(NotWhole, match="response-sets/3/7"):
        delivery(letter)


def test_headers_that_no_topic_takes_are_left_out_too() -> None:
    record = replace(a_record(b"vv"), headers=(("x", b"h" * 2000),))
    letter = letter_of(Burial(replace(DEAD, max_event_bytes=1000))(dead(record)))
    assert (letter.left_out_bytes, list(letter.headers), letter.HasField("key")) == (2 + 1 + 2001, [], False)


def test_a_record_that_the_retry_topic_does_not_take() -> None:
    letter = letter_of(Burial(DEAD)(dead(a_record(b"v" * 2000))))
    with pytest.raises(DoesNotFit, match="label-retry"):
        returned(letter, replace(RETRY, max_message_bytes=1000), DEAD, "", "")


def test_a_letter_is_open_until_it_is_replayed_and_again_when_it_fails_again() -> None:
    first, other = (Burial(DEAD)(dead(a_record(offset=offset))) for offset in (7, 8))
    _, marker = returned(letter_of(first), RETRY, DEAD, "", "").outputs
    ids = [letter_of(output).id for output in (first, other)]
    records = [on_topic(output, offset) for offset, output in enumerate((first, other, marker, first))]
    assert [list(Board(DEAD).read(records[:end]).open) for end in (1, 2, 3, 4)] == [
        [ids[0]],
        ids,
        [ids[1]],
        [ids[1], ids[0]],
    ]
    assert Board(DEAD).read(records).open[ids[0]].offset == 3


def test_what_is_no_letter_is_named() -> None:
    board = Board(DEAD).read([Record(Partition("label-dead", 1), 5, None, b"{}")])
    assert (board.unreadable, board.unreadable_count, board.open) == (["label-dead/1/5"], 1, {})


def buried(*offsets: int) -> list[Output]:
    return [Burial(DEAD)(dead(a_record(offset=offset))) for offset in offsets]


def test_a_board_holds_no_more_than_it_may() -> None:
    """What is held is told rightly; the rest is counted, and can be asked for when the others are gone."""
    outputs = buried(*range(20))
    noise = [Record(Partition("label-dead", 1), offset, None, b"{}") for offset in range(30)]
    _, marker = returned(letter_of(outputs[3]), RETRY, DEAD, "", "").outputs
    records = [on_topic(output, offset) for offset, output in enumerate([*outputs, marker])]
    board = Board(DEAD, max_letters=10).read([*records, *noise])
    assert len(board.open) == 9
    assert (board.not_held, len(board.unreadable), board.unreadable_count) == (10, 10, 30)
    assert letter_of(outputs[3]).id not in board.open


def test_letters_that_nobody_asked_for_are_passed_by() -> None:
    outputs = buried(*range(20))
    asked, back = letter_of(outputs[15]).id, letter_of(outputs[16]).id
    _, marker = returned(letter_of(outputs[16]), RETRY, DEAD, "me", "").outputs
    records = [on_topic(output, offset) for offset, output in enumerate([*outputs, marker])]
    board = Board(DEAD, {asked, back}, only_asked=True, max_letters=2).read(records)
    assert (list(board.open), board.not_held) == ([asked], 0)
    replay = board.replays[back]
    assert (replay.by, replay.letter and replay.letter.offset) == ("me", 16)


def test_letters_are_told_oldest_first() -> None:
    outputs = buried(1, 2, 3)
    records = [replace(on_topic(output), written_at_ms=at) for output, at in zip(outputs, (300, 100, -1), strict=True)]
    assert [letter.source[-1] for letter in Board(DEAD).read(records).oldest_first()] == ["2", "1", "3"]


# ---------------------------------------------------------------- whatever a record holds


counts = st.integers(0, 5).map(str)
odd = st.integers(-(2**70), 2**70).map(str) | st.sampled_from(["", "1" * 5000, "+1", "1_0", "\u0661", " 1", "/", "\0"])
places = st.builds("{}/{}/{}".format, texts | st.just("response-sets"), counts | odd, counts | odd)


@given(
    told=st.fixed_dictionaries(dict.fromkeys(OURS, counts | odd) | {"themis-origin": places | odd}),
    theirs=headers,
    order=st.permutations(range(len(OURS))) | st.just(range(len(OURS))),
)
@settings(deadline=None, max_examples=400)
def test_a_record_of_any_history_can_be_given_up(
    told: dict[str, str], theirs: tuple[tuple[str, bytes | None], ...], order: Sequence[int]
) -> None:
    """Others may write to a retry topic, and a stage that can't give a record up stands still."""
    runner = Retries("label", RETRY.name, Burial(DEAD))
    own = tuple((OURS[index], told[OURS[index]].encode()) for index in order)
    record = Record(Partition(RETRY.name, 0), 7, None, b"v", theirs + own)
    try:
        given_up = runner.delivery(record)
    except Malformed:
        given_up = Delivery(record, Origin(record.partition, record.offset, -1))
    letter = letter_of(runner.after(Reject("no", ""), given_up, 0))
    assert letter.value == b"v"
    json.loads(whole_of(letter))


@pytest.mark.parametrize(
    "told",
    [
        {"themis-failures": str(2**31)},
        {"themis-failures": "-1"},
        {"themis-postponed": "9" * 20},
        {"themis-written-ms": "-2"},
        {"themis-origin": "response-sets/0/9223372036854775808"},
        {"themis-origin": "response-sets/2147483648/0"},
        {"themis-origin": "response-sets/0"},
        {"themis-origin": f"{'t' * 250}/0/0"},
        {"themis-null-headers": "x"},
        {"themis-not-before-ms": "9" * 5000},
    ],
)
def test_a_history_that_no_runner_wrote_is_malformed(told: dict[str, str]) -> None:
    runner = Retries("label", RETRY.name, Burial(DEAD))
    own = dict.fromkeys(OURS, "0") | {"themis-origin": "response-sets/0/1", "themis-null-headers": ""}
    right = tuple((name, text.encode()) for name, text in own.items())
    wrong = tuple((name, text.encode()) for name, text in (own | told).items())
    place = Partition(RETRY.name, 0)
    assert runner.delivery(Record(place, 7, None, b"v", right)).origin.offset == 1
    for headers_ in (wrong, right[:-1], right[::-1], (*right, ("x", b""))):
        with pytest.raises(Malformed):
            runner.delivery(Record(place, 7, None, b"v", headers_))


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**70))
@settings(deadline=None)
def test_times_and_counts_beyond_all_measure(written_at_ms: int, attempts: int) -> None:
    given_up = dead(replace(a_record(), written_at_ms=written_at_ms), attempts=attempts)
    letter = letter_of(Burial(DEAD)(given_up))
    assert letter.attempts == min(attempts, 2**31 - 1)
    assert letter.HasField("written_at") == (0 <= written_at_ms < 253_402_300_800_000)


def test_long_words_about_a_record_are_cut_and_said_so() -> None:
    given_up = replace(dead(a_record()), error="E" * 2001, detail="\ud800" + "d" * 10_000_000)
    letter = letter_of(Burial(DEAD)(given_up))
    assert letter.error == "E" * 2000 + " ... and 1 characters more"
    assert letter.detail.startswith("\\ud800ddd")
    assert letter.detail.endswith("d ... and 9998006 characters more")
    assert letter.value == b"set"


def test_headers_left_out_of_a_record_without_a_value() -> None:
    record = replace(a_record(None), headers=(("x", b"h" * 2000),))
    letter = letter_of(Burial(replace(DEAD, max_event_bytes=1000))(dead(record)))
    assert (letter.left_out_bytes, letter.left_out_sha256) == (2002, b"")


# ---------------------------------------------------------------- shown


def test_what_is_shown_leaves_the_terminal_alone() -> None:
    evil = "a\x1b[2J\x9b2J\u202e\u2028\x7f\U000e0001\n\tz"
    given_up = replace(dead(a_record(evil.encode())), error=evil, detail=evil)
    letter = letter_of(Burial(DEAD)(given_up))
    text = whole_of(letter)
    assert all(char.isprintable() or char == "\n" for char in text)
    assert (json.loads(text)["value"], json.loads(text)["error"]) == (evil, evil)
    board = Board(DEAD).read([on_topic(Burial(DEAD)(given_up))])
    lines = [*table([("label", letter) for letter in board.open.values()]), sums("label", board)]
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 3


def test_a_time_that_is_none_hides_no_letter() -> None:
    event = Instruction(id="i")
    event.at.seconds = 10**15
    value, headers = encode(event, 1000)
    letter = letter_of(Burial(DEAD)(dead(replace(a_record(value), headers=headers))))
    letter.written_at.seconds = 10**15
    told = json.loads(whole_of(letter))
    assert (told["value"], told["written_at"]) == ({"base64": b64encode(value).decode()}, None)
    late = Record(Partition(DEAD.name, 0), 0, b"k", *encode(letter, DEAD.max_event_bytes), -1, 2**62)
    (summary,) = Board(DEAD).read([late]).open.values()
    assert (summary.written_at, summary.given_up_at) == (None, None)


def test_fields_that_only_a_later_release_knows_are_counted() -> None:
    value, headers = encode(Instruction(id="i"), 1000)
    given_up = dead(replace(a_record(value + b"\xd2\x3e\x05later"), headers=headers))
    told = json.loads(whole_of(letter_of(Burial(DEAD)(given_up))))
    assert told["value"] == {"message": "Instruction", "event": {"id": "i"}, "unknown_fields_bytes": 8}


def test_kinds_of_errors_are_summed_and_bounded() -> None:
    outputs = [Burial(DEAD)(replace(dead(a_record(offset=n)), error=f"E{n % 9}")) for n in range(19)]
    board = Board(DEAD).read([on_topic(output) for output in outputs])
    told = sums("label", board)
    assert told.startswith("label: 3 exhausted (E0), 2 exhausted (E1), ")
    assert told.endswith(", 8 others")
