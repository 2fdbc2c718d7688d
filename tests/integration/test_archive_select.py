"""`themis-pipeline select` over what the stage archived from a real topic."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path

from tests.integration.archive_world import Scene, archived, archiving
from tests.unit.pipeline.archive_samples import scored
from themis_judge.store.local import LocalFiles
from themis_pipeline.archive.parquet import from_parquet
from themis_pipeline.kafka.seam import Output
from themis_pipeline.local.broker import KafkaBroker
from themis_pipeline.select.command import add_select
from themis_proto.v1 import events_pb2 as ev

FILES = ("records.parquet", "decisions.jsonl", "selection.json", "pool.json", "selection.png")


def label(number: int) -> ev.Scored:
    """Three of four by a forum, the others by the pipeline's own quizzes; of two scenarios, each difficulty another."""
    event = scored(f"e{number}", "math" if number % 2 else "open_qa", 1 + number % 5)
    text = hashlib.sha256(str(number).encode()).hexdigest()
    event.labelled.instruction.messages[0].parts[0].text = text
    event.difficulty.log_perplexity_ratio = -0.1 - 0.01 * number
    if number % 4:
        event.labelled.instruction.origin = ev.INSTRUCTION_ORIGIN_PEOPLE
        event.labelled.provenance.source = "forum"
    return event


def call(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_select(parser.add_subparsers())
    args = parser.parse_args(["select", *map(str, arguments)])
    return int(args.run(args))


async def test_what_the_stage_archived_is_selected_and_explained(kafka: KafkaBroker, tmp_path: Path) -> None:
    scene, files = Scene(kafka.address), LocalFiles(tmp_path / "archive")
    scene.lay()
    events = [label(number) for number in range(100)]
    events[10].difficulty.log_perplexity_ratio = 5.0
    events[11].difficulty.log_perplexity_ratio = 0.01
    events[12].ClearField("difficulty")
    scene.write_events(events, transactions=4)
    async with archiving(scene, files) as one:
        await one.until(lambda: len(archived(files)) == 100)
        again = scene.records()[0]  # as a second replay of one letter would bring it
        key, value = again.key, again.value or b""
        headers = tuple((name, content or b"") for name, content in again.headers)
        scene.produce([Output(scene.topic.name, key, value, headers)])
        await one.until(lambda: archived(files).total() == 101)
    for name in ("one", "two"):
        assert call(tmp_path / "archive", "--out", tmp_path / name, "--top", "60") == 0
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    decisions = [json.loads(line) for line in (tmp_path / "one/decisions.jsonl").read_text().splitlines()]
    counts = Counter(one["reason"] for one in decisions)
    assert (len(decisions), counts["repeated"], counts["outlier"], counts["above 1"]) == (101, 1, 1, 1)
    assert counts["without a difficulty"] == 1
    kept = list(from_parquet((tmp_path / "one/records.parquet").read_bytes(), "here"))
    sources = Counter(record.source for record in kept)
    assert sources["quiz"] == sources["forum"] > 15  # all of the quizzes that are left, and as many
    assert {record.id for record in kept} == {one["id"] for one in decisions if one["reason"] == "kept"}
    assert counts["above the source's share"] > 0
