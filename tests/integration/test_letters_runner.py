"""What a real stage gives up, found again whole and handled again: the runner, the burial and the commands together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.integration.letters_world import OddName, World, doing, given_up, letters_world, until
from themis_pipeline.dead_letters.board import Board
from themis_pipeline.dead_letters.replays import HEADER, count
from themis_pipeline.events.codec import MESSAGE, VERSION
from themis_pipeline.local.broker import KafkaBroker
from themis_pipeline.topics import NEW_PROMPTS, dead_letter_topic
from themis_proto.v1.events_pb2 import NewPrompt


@pytest.fixture
def world(
    kafka: KafkaBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Iterator[World]:
    with letters_world(kafka, tmp_path, capsys, str(request.node.name)) as made:
        yield made


OURS = ((MESSAGE, b"NewPrompt"), (VERSION, b"1"))
PROMPT = NewPrompt(source="desk", text="What is\nthis?").SerializeToString() + b"\xd2\x3e\x05later"
"""With a field of a later release."""
# key, value, headers, the reason and the error with which it is given up, the attempts
FED: dict[str, tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...], str, str, int]] = {
    "fails": (b"\x00\xff", PROMPT, (*OURS, ("trace", b"\xfe\x00"), ("trace", b"")), "exhausted", "LookupError", 3),
    "json": (None, b'{"source": "desk", "text": "\xc3\xa4"}', (), "exhausted", "LookupError", 3),
    "odd-names": (b"k", b'{"sauce": 1}', ((OddName("\xff\xfe"), b"v"),), "malformed", "json", 1),
    "malformed": (b"k", b"\x12\x02\xc3\x28\x9b", (*OURS, ("x", b"y")), "malformed", "bytes", 1),
    "no-json": (b"", b'{"sauce": "desk"}', (("x", b""),), "malformed", "json", 1),
    "oversize": (b"k", b"\x22\x80\x80\x60" + b"x" * 1_572_864, OURS, "oversize", "oversize", 1),
    "nothing": (b"k", None, OURS, "malformed", "NullValue", 1),
}


def ids_by_error(world: World) -> dict[str, str]:
    topic = dead_letter_topic("classify").placed(world.topics)
    board = Board(topic).read(world.read("classify-dead"))
    return {letter.id: f"{letter.reason} {letter.error} {letter.size_bytes}" for letter in board.open.values()}


def shown_text(data: bytes | None) -> object:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        import base64

        return {"base64": base64.b64encode(data).decode()}


def shown_name(name: str) -> str:
    """An odd one as it was on the wire, its bytes escaped."""
    return name.encode().decode("utf-8", "backslashreplace")


async def test_what_is_given_up_is_found_whole_and_handled_again_by_its_stage_alone(
    world: World, tmp_path: Path
) -> None:
    async with doing(world, "classify", "classified-prompts") as classify, doing(world, "plan", "quiz-plans") as plan:
        for key, value, headers, *_ in FED.values():
            world.feed("new-prompts", key, value, *headers)
        await until(lambda: len(ids_by_error(world)) == len(FED))
        found = {kind: letter for letter, kind in ids_by_error(world).items()}
        for name, (key, value, headers, reason, error, attempts) in FED.items():
            letter = found[f"{reason} {error} {len(value or b'')}"]
            file = tmp_path / name
            told = world.shown("classify", letter, *(("--value-to", str(file)) if value is not None else ()))
            assert (told["reason"], told["error"], told["attempts"]) == (reason, error, attempts)
            assert (told["key"], told["replayed"]) == (shown_text(key), None)
            assert told["headers"] == [[shown_name(header), shown_text(content)] for header, content in headers]
            if value is not None:
                assert file.read_bytes() == value
                assert (told["bytes"], told["sha256"]) == (len(value), sha256(value).hexdigest())
        assert len(classify.seen) == 3 + 3 + 1 + 1 + 1 + 1

        # Nothing has changed: what couldn't be read can't be read now, and is given up again at once.
        classify.seen.clear()
        malformed = found["malformed bytes 5"]
        assert world.letters("replay", "classify", malformed)[0] == 0
        await until(lambda: malformed in ids_by_error(world))
        assert [(one.failures, one.postponed, one.not_before_ms) for one in classify.seen] == [(0, 0, 0)]

        classify.seen.clear()
        classify.mended, classify.more_bytes = True, 1_000_000
        code, out, complaint = world.letters("replay", "classify", "--all", "--by", "op")
        assert (code, out.splitlines()[-1]) == (1, f"6 of 7 are back on {world.topics.prefix}classify-retry")
        assert "the record has no value" in complaint
        await until(lambda: len(world.read("classified-prompts")) == 3)
        await until(lambda: len(ids_by_error(world)) == 4)
        assert sorted(len(record.value or b"") for record in world.read("classified-prompts")) == sorted(
            [
                len(PROMPT),
                len(NewPrompt(source="desk", text="ä").SerializeToString()),
                len(FED["oversize"][1] or b""),
            ]
        )
        assert PROMPT in [record.value for record in world.read("classified-prompts")]
        assert {(one.failures, one.postponed) for one in classify.seen} == {(0, 0)}
        assert {one.origin.partition.topic for one in classify.seen} == {world.topics.prefix + NEW_PROMPTS.name}
        handled = [tuple(header for header in one.record.headers if header[0] != HEADER) for one in classify.seen]
        fed = [headers for _, value, headers, *_ in FED.values() if value is not None]
        assert sorted(handled) == sorted(tuple((shown_name(name), said) for name, said in one) for one in fed)
        assert sorted(count(one.record.headers) for one in classify.seen) == [1, 1, 1, 1, 1, 2]
        assert [one.record.key for one in classify.seen if one.record.value == PROMPT] == [b"\x00\xff"]

        letter = found["exhausted LookupError " + str(len(PROMPT))]
        code, _, complaint = world.letters("replay", "classify", letter)
        assert (code, complaint.startswith(f"themis-pipeline: {letter}: went back at ")) == (1, True)
        assert len(classify.seen) == 6
    assert plan.seen == []
    assert [
        topic for topic in ("new-prompts", "plan-retry") if len(world.read(topic)) != len(FED) * (topic[0] == "n")
    ] == []


async def test_what_no_topic_takes_whole_is_told_and_stands_in_nobodys_way(world: World) -> None:
    value = b"\x22\x80\x80\x80\x08" + b"x" * 16 * 1024**2
    async with doing(world, "classify", "classified-prompts") as classify:
        classify.mended = True
        world.feed("new-prompts", b"k", value, *OURS)
        world.feed("new-prompts", b"k", PROMPT, *OURS)
        await until(lambda: len(world.read("classified-prompts")) == 1)
        await until(lambda: len(ids_by_error(world)) == 1)
        (letter,) = ids_by_error(world)
        told = world.shown("classify", letter)
        assert (told["reason"], told["value"], told["key"]) == ("oversize", None, "k")
        assert told["left_out"] == {"bytes": len(value), "sha256": sha256(value).hexdigest()}
        code, _, complaint = world.letters("replay", "classify", letter)
        assert code == 1
        assert f"{len(value)} bytes are left out; the record is at {told['from']} as long as that topic" in complaint
        assert world.read("classify-retry") == []


@pytest.mark.parametrize(("step", "times", "back"), [("flush", 1, 0), ("commit", 2, 50), ("after", 2, 100)])
def test_a_replay_that_is_killed_loses_and_doubles_nothing(world: World, step: str, times: int, back: int) -> None:
    """What it had written whole stays, and the rest goes back when it is asked for again."""
    letters = world.bury(*(given_up("label", offset) for offset in range(120)))
    command = [sys.executable, "-m", "tests.integration.letters_replaying", step, str(times)]
    arguments = ["replay", "label", *letters, "--config", str(world.settings)]
    killed = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, env={**os.environ})
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    code, out, complaint = world.letters("replay", "label", *letters)
    assert len(complaint.splitlines()) == back
    assert code == (1 if back else 0)
    assert out.splitlines()[-1] == f"{120 - back} of {120 - back} are back on {world.topics.prefix}label-retry"
    records = world.read("label-retry")
    assert len(records) == len({dict(record.headers)["themis-origin"] for record in records}) == 120
    assert world.letters("list", "label") == (0, "0 dead letters\n", "")
    assert json.loads(world.settings.read_text())
