"""`themis-pipeline dead-letters` against a real broker."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.letters_world import World, given_up, letters_world
from themis_pipeline.__main__ import main
from themis_pipeline.dead_letters.board import letter_in
from themis_pipeline.dead_letters.letters import Burial
from themis_pipeline.dead_letters.replay import returned
from themis_pipeline.kafka.connection import connection
from themis_pipeline.kafka.seam import Output
from themis_pipeline.kafka.transport import KafkaTransport
from themis_pipeline.local.broker import KafkaBroker
from themis_pipeline.runner.retries import Retries
from themis_pipeline.runner.stage import DeadRecord, Reason
from themis_pipeline.topics import STAGES, dead_letter_topic, retry_topic
from themis_proto.v1.events_pb2 import DeadLetter


@pytest.fixture
def world(
    kafka: KafkaBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Iterator[World]:
    with letters_world(kafka, tmp_path, capsys, str(request.node.name)) as made:
        yield made
    assert not [thread.name for thread in threading.enumerate() if "themis-watchdog" in thread.name]


def test_listed_shown_and_replayed_once(world: World) -> None:
    assert world.letters("list") == (0, "0 dead letters\n", "")
    first, second = world.bury(given_up("label", 1), given_up("label", 2, Reason.REJECTED))
    (other,) = world.bury(given_up("respond", 1))
    code, out, _ = world.letters("list")
    assert code == 1
    assert {line.split()[0] for line in out.splitlines()[1:-1]} == {first, second, other}
    assert "2023-11-14T22:13:20+00:00  sets/0/1" in out

    assert world.shown("label", first)["value"] == {"message": "ResponseSet", "event": {"id": "set-1"}}

    assert world.letters("replay", "label", first, "--why", "mended")[0] == 0
    (record,) = world.read("label-retry")
    again = Retries("label", f"{world.topics.prefix}label-retry", _no_burial).delivery(record)
    assert (again.origin, again.failures) == (given_up("label", 1).delivery.origin, 0)
    assert again.record.value == given_up("label", 1).delivery.record.value
    assert world.listed("label") == [second]
    assert {stage for stage in STAGES if world.read(f"{stage}-retry")} == {"label"}

    world.bury(given_up("label", 1))
    assert world.listed("label") == [second, first]


def test_a_replay_asked_for_twice_is_told_and_sends_nothing(world: World) -> None:
    first, second = world.bury(given_up("label", 1), given_up("label", 2))
    assert world.letters("replay", "label", first, "--by", "op", "--why", "mended")[0] == 0
    code, out, complaint = world.letters("replay", "label", first)
    assert (code, out) == (1, "there is nothing to replay\n")
    assert complaint.startswith(f"themis-pipeline: {first}: went back at 20")
    assert " by op (mended) and is passed over; should its stage give it up again" in complaint
    assert len(world.read("label-retry")) == 1
    assert world.shown("label", first)["replayed"]["why"] == "mended"

    code, out, complaint = world.letters("replay", "label", first, second, first)
    assert (code, out) == (1, f"1 of 1 are back on {world.topics.prefix}label-retry\n")
    assert complaint.count(first) == 1
    assert len(world.read("label-retry")) == 2

    code, _, complaint = world.letters("replay", "label", first, "nothing")
    assert (code, complaint) == (2, "themis-pipeline: label has no dead letter nothing; nothing went back\n")
    world.bury(given_up("label", 1))
    assert world.letters("replay", "label", first)[0] == 0
    assert len(world.read("label-retry")) == 3


def test_a_replay_that_stands_behind_an_open_transaction_is_not_overlooked(world: World) -> None:
    """Readers of what is committed see nothing behind it: the letter looked open, and went back a second time."""
    (letter,) = world.bury(given_up("label", 1))
    (copy,) = [Burial(dead_letter_topic("label").placed(world.topics))(given_up("label", 1))]
    stage = KafkaTransport(connection(world.kafka)).producer("a-stage")
    retry, dead = retry_topic("label").placed(world.topics), dead_letter_topic("label").placed(world.topics)
    marker = returned(_letter(world, letter), retry, dead, "", "")
    stage.begin()
    stage.send(copy).wait(30)
    world.write(*marker.outputs)
    code, _, complaint = world.letters("replay", "label", letter, "--kafka.request_timeout_s", "2")
    assert code == 3
    assert "label-dead: nothing came for 2 s, and its end isn't reached: a transaction is open on it" in complaint
    stage.discard()
    KafkaTransport(connection(world.kafka)).producer("a-stage").discard()  # which ends what was left open
    assert world.letters("replay", "label", letter)[0] == 1
    assert len(world.read("label-retry")) == 1


def _letter(world: World, letter: str) -> DeadLetter:
    topic = dead_letter_topic("label").placed(world.topics)
    (found,) = (letter_in(one, topic) for one in world.read("label-dead") if one.key == letter.encode())
    assert isinstance(found, DeadLetter)
    return found


def _no_burial(dead: DeadRecord) -> Output:
    raise AssertionError(dead)


def test_all_of_a_reason_in_several_transactions(world: World) -> None:
    world.bury(*(given_up("label", offset) for offset in range(120)), given_up("label", 500, Reason.MALFORMED))
    code, out, complaint = world.letters("replay", "label", "--all", "--reason", "exhausted")
    assert (code, complaint) == (0, "")
    assert out.splitlines()[-1] == f"120 of 120 are back on {world.topics.prefix}label-retry"
    assert len({record.key or b"" for record in world.read("label-retry")}) == 1
    assert len(world.read("label-retry")) == 120
    assert world.letters("list", "label")[1].splitlines()[-1] == "1 dead letters"
    assert world.letters("replay", "label", "--all", "--reason", "exhausted")[1] == "there is nothing to replay\n"


def test_letters_that_were_never_committed_are_none(world: World) -> None:
    world.bury(given_up("label", 1), commit=False)
    assert world.letters("list", "label") == (0, "0 dead letters\n", "")


def test_more_than_are_shown_are_counted(world: World) -> None:
    world.bury(*(given_up("label", offset) for offset in range(5)))
    code, out, _ = world.letters("list", "label", "--limit", "2")
    assert (code, len(out.splitlines())) == (1, 5)
    assert out.splitlines()[-2:] == ["label: 5 exhausted (TimeoutError)", "5 dead letters, 2 shown"]


def test_thousands_of_letters(world: World) -> None:
    for start in range(0, 3000, 500):
        world.bury(*(given_up("label", offset) for offset in range(start, start + 500)))
    code, out, _ = world.letters("list")
    assert (code, len(out.splitlines())) == (1, 103)
    assert out.splitlines()[-1] == "3000 dead letters, 100 shown"
    code, out, _ = world.letters("replay", "label", "--all")
    assert (code, out.splitlines()[-1]) == (0, f"3000 of 3000 are back on {world.topics.prefix}label-retry")
    assert len({record.headers for record in world.read("label-retry")}) == 3000
    assert world.letters("list") == (0, "0 dead letters\n", "")


def test_the_largest_record_that_a_stage_can_be_sent_is_buried_and_replayed(world: World) -> None:
    value = b"\0" * (STAGES["label"][0].max_message_bytes - 1000)
    (letter,) = world.bury(given_up("label", 1, Reason.OVERSIZE, value))
    assert world.letters("replay", "label", letter)[0] == 0
    (record,) = world.read("label-retry")
    assert record.value == value


def test_what_is_not_whole_stays(world: World) -> None:
    limit = dead_letter_topic("label").max_event_bytes
    (large,) = world.bury(given_up("label", 1, value=b"\0" * (limit + 1)))
    (small,) = world.bury(given_up("label", 2))
    code, out, complaint = world.letters("replay", "label", "--all")
    assert code == 1
    assert out == f"1 of 2 are back on {world.topics.prefix}label-retry\n"
    assert complaint.startswith(f"themis-pipeline: {large}: {limit + 1} bytes are left out; the record is at sets/0/1")
    assert small not in world.letters("list", "label")[1]


def test_a_replay_that_another_one_overtook_writes_nothing(world: World) -> None:
    """Both would send the same letters: the later one ends the earlier."""
    world.bury(given_up("label", 1))
    transport = KafkaTransport(connection(world.kafka))
    earlier = transport.producer(f"{world.topics.prefix}label-replay")
    earlier.begin()
    earlier.send(Output(f"{world.topics.prefix}label-retry", b"k", b"v")).wait(30)
    assert world.letters("replay", "label", "--all")[0] == 0
    with pytest.raises(Exception, match=r"Fenced|Epoch"):
        earlier.commit()
    earlier.discard()
    assert [record.value for record in world.read("label-retry")] == [given_up("label", 1).delivery.record.value]


def test_the_command_says_nothing_but_its_own(world: World) -> None:
    """As people see it: the client library's own chatter is none of theirs."""
    (letter,) = world.bury(given_up("label", 1))
    for arguments, code in ((("list", "label"), 1), (("show", "label", letter), 0), (("replay", "label", letter), 0)):
        command = [sys.executable, "-m", "themis_pipeline", "dead-letters", *arguments, "--config", str(world.settings)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (code, "")


def test_values_are_written_to_new_files_alone(world: World, tmp_path: Path) -> None:
    (letter,) = world.bury(given_up("label", 1))
    (empty,) = world.bury(given_up("label", 2, value=b"\0" * (dead_letter_topic("label").max_event_bytes + 1)))
    file = tmp_path / "value"
    world.shown("label", letter, "--value-to", str(file))
    assert file.read_bytes() == given_up("label", 1).delivery.record.value
    refused = world.letters("show", "label", letter, "--value-to", str(file))
    assert refused == (2, "", f"themis-pipeline: --value-to {file}: File exists\n")
    code, _, complaint = world.letters("show", "label", empty, "--value-to", str(tmp_path / "other"))
    assert (code, "its value is not here" in complaint, list(tmp_path.glob("other"))) == (2, True, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "nothing"),
        ("replay", "label", "id", "--why", "\udcff"),
        ("list", "--limit", "0"),
        ("replay", "label"),
        ("replay", "label", "id", "--all"),
        ("replay", "label", "id", "--reason", "rejected"),
    ],
)
def test_usage_that_is_wrong(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead-letters", *arguments]) == 2
    assert capsys.readouterr().err.startswith("themis-pipeline: ")


def test_without_topics(kafka: KafkaBroker, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--kafka.bootstrap_servers", kafka.address, "--topics.prefix", "never-made-")
    assert main(["dead-letters", "list", "label", *where]) == 3
    assert "never-made-label-dead: there is no such topic" in capsys.readouterr().err
