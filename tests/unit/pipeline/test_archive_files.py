"""The archive on a directory: what is written is read, once, whoever writes and whenever a writer dies."""

from __future__ import annotations

import io
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from threading import Barrier, Thread

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tests.unit.pipeline.archive_samples import DAY, TOPIC, record, scored
from themis_judge.store.local import LocalFiles
from themis_pipeline.archive import (
    CorruptArchive,
    Overtaken,
    PartitionWriter,
    Place,
    Record,
    Refused,
    from_scored,
    open_files,
    read,
    snapshot,
)
from themis_pipeline.archive.checking import SCENARIO_BYTES
from themis_pipeline.archive.garbage import sweep
from themis_pipeline.archive.parquet import from_parquet, to_parquet
from themis_pipeline.archive.schema import COLUMNS, TEXT, Column, arrow_schema, conform
from themis_proto.v1 import events_pb2 as events
from themis_proto.v1 import judge_pb2 as judge


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path / "archive")


def all_of(files: LocalFiles) -> list[Record]:
    return list(read(files, snapshot(files)))


# ---------------------------------------------------------------------------------------------------- events


def test_a_record_says_what_its_event_says() -> None:
    event = scored("7", "math", 4)
    found = from_scored(event, Place(TOPIC, 3, 12))
    assert (found.id, found.scenario, found.mode, found.labeller, found.rating) == (
        "7",
        "math",
        "reference",
        "teacher",
        4,
    )
    assert (found.scale_min, found.scale_max, found.preference, found.pair) == (1, 5, None, None)
    assert found.messages[0].text.startswith("What is 2 + 2")
    assert (found.responses, found.response_methods) == (("It is 7.",), ("answered",))
    assert (found.response_generators, found.response_lineages) == (("local/policy-1",), ("policies",))
    assert (found.source, found.generator, found.teacher) == ("quiz", "local/writer-1", "local/teacher-1")
    assert (found.generator_lineage, found.teacher_lineage, found.judge_lineage) == ("writers", "teachers", "judges")
    assert (found.scorer, found.log_perplexity_ratio, found.mean_loss_ratio, found.scored_tokens) == (
        "s1",
        -0.5,
        0.8,
        9,
    )
    assert (found.loss_with_prompt, found.loss_alone) == (2.0, 2.5)
    assert (found.instruction_origin, found.made_from, found.scenario_basis) == ("quiz", "plan-7", "constructed")
    assert (found.scenario_probability, found.known, found.annotators, found.agreement) == (None, None, 0, None)
    assert (found.at, found.topic, found.partition, found.offset) == (DAY, TOPIC, 3, 12)
    assert events.Scored.FromString(found.event) == event


def test_what_was_not_scored_has_no_number() -> None:
    event = scored("7")
    event.ClearField("difficulty")
    found = from_scored(event, Place(TOPIC, 0, 0))
    assert (found.scorer, found.log_perplexity_ratio, found.mean_loss_ratio, found.scored_tokens) == (None,) * 4


BAD: dict[str, Callable[[events.Scored], object]] = {
    "either a rating": lambda event: event.labelled.ClearField("rating"),
    "a rating, or a preference": lambda event: setattr(event.labelled, "preference", judge.PREFERENCE_A),
    "2 candidates": lambda event: event.labelled.candidates.append(event.labelled.candidates[0]),
    "outside its scale": lambda event: setattr(event.labelled, "rating", 6),
    "lacks the time": lambda event: event.labelled.ClearField("at"),
    "or that is none": lambda event: setattr(event.labelled.at, "seconds", 2**60),
    "lacks an id": lambda event: event.labelled.instruction.ClearField("id"),
    "id is missing, or too long": lambda event: setattr(event.labelled.instruction, "scenario", "é" * 40),
    "lacks the source": lambda event: event.labelled.provenance.ClearField("source"),
    "doesn't say which": lambda event: event.labelled.provenance.ClearField("teacher"),
    "without its lineage": lambda event: event.labelled.provenance.generator.ClearField("lineage"),
    "is no number": lambda event: setattr(event.difficulty, "log_perplexity_ratio", math.nan),
    "lacks the scorer": lambda event: event.difficulty.ClearField("scorer"),
}


@pytest.mark.parametrize("words", BAD)
def test_an_event_that_lacks_what_it_needs_or_contradicts_itself_is_refused(words: str) -> None:
    event = scored("7")
    BAD[words](event)
    with pytest.raises(Refused, match=f"offset 5: .*{words}"):
        from_scored(event, Place(TOPIC, 0, 5))


def test_the_longest_scenario_can_be_archived(files: LocalFiles) -> None:
    """A name that the file system refuses would be tried for ever."""
    PartitionWriter(files, TOPIC, 0).write([record(0, "s" * SCENARIO_BYTES)], 1)
    assert len(all_of(files)) == 1


def test_a_method_that_newer_software_named_stands_as_its_number() -> None:
    event = scored("7")
    event.labelled.candidates[0].method = 99  # type: ignore[assignment]
    assert from_scored(event, Place(TOPIC, 0, 0)).response_methods == ("99",)


def test_what_was_done_to_a_responses_length_is_told() -> None:
    event = scored("7")
    assert from_scored(event, Place(TOPIC, 0, 0)).response_length_changes == ("none",)
    event.labelled.candidates[0].length_change = events.LENGTH_CHANGE_PADDED
    assert from_scored(event, Place(TOPIC, 0, 0)).response_length_changes == ("padded",)


# ---------------------------------------------------------------------------------------------------- schema


def test_each_field_of_a_record_is_a_column_with_a_meaning() -> None:
    assert [column.name for column in COLUMNS] == [field.name for field in fields(Record)]
    assert all(column.meaning for column in COLUMNS)
    written = pq.read_schema(io.BytesIO(to_parquet([record(0)])))
    assert written.field("scorer").metadata[b"meaning"].startswith(b"the frozen model")


def test_records_come_back_as_they_were() -> None:
    records = [record(0), replace(record(1), rating=None, preference="tie", pair="p", reference=None, points=())]
    assert list(from_parquet(to_parquet(records), "here")) == records


def test_a_file_of_older_software_is_read_with_nulls_for_what_it_lacks() -> None:
    newer = (*COLUMNS, Column("mood", TEXT, "made up", may_be_absent=True, since=2))
    table = conform(pq.read_table(io.BytesIO(to_parquet([record(0)]))), "here", newer)
    assert table.column("mood").to_pylist() == [None]
    assert table.column("id").to_pylist() == ["r0-0"]


def test_a_file_of_newer_software_is_read_without_what_is_not_known() -> None:
    table = pq.read_table(io.BytesIO(to_parquet([record(0)]))).append_column("mood", pa.array(["good"]))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    assert list(from_parquet(buffer.getvalue(), "here")) == [record(0)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop_columns(["scenario"]), "no column scenario"),
        (lambda table: table.set_column(0, "id", pa.array([1])), "of type int64"),
        (lambda table: table.set_column(0, "id", pa.array([None], TEXT)), "has nulls"),
    ],
)
def test_a_column_that_is_missing_or_another_is_an_error(change: object, words: str) -> None:
    assert callable(change)
    table = change(pq.read_table(io.BytesIO(to_parquet([record(0)]))))
    with pytest.raises(CorruptArchive, match=words):
        conform(table, "here")


def test_an_empty_table_keeps_the_schema() -> None:
    assert pq.read_schema(io.BytesIO(to_parquet([]))).equals(arrow_schema())


# ---------------------------------------------------------------------------------------------------- writing


def test_what_is_written_is_read_by_topic_partition_and_offset(files: LocalFiles) -> None:
    first, second = PartitionWriter(files, TOPIC, 1), PartitionWriter(files, TOPIC, 0)
    first.write([record(3, partition=1)], 10)
    second.write([record(1), record(0, "open_qa")], 2)
    second.write([record(2, day=1)], 7)
    found = [(entry.partition, entry.offset) for entry in all_of(files)]
    assert found == [(0, 1), (0, 0), (0, 2), (1, 3)]  # by scenario within a manifest
    assert [entry.offset for entry in read(files, snapshot(files), scenarios=["open_qa"])] == [0]
    assert [entry.offset for entry in read(files, snapshot(files), days=["2026-03-02"])] == [2]


def test_files_lie_by_day_and_scenario(files: LocalFiles) -> None:
    manifest = PartitionWriter(files, TOPIC, 0).write([record(0), record(1, "open_qa"), record(2, day=1)], 3)
    folders = [file.path.rpartition("/")[0] for file in manifest.files]
    assert folders == [
        "data/day=2026-03-01/scenario=math",
        "data/day=2026-03-01/scenario=open_qa",
        "data/day=2026-03-02/scenario=math",
    ]


def test_a_scenario_can_not_lead_out_of_the_archive(files: LocalFiles, tmp_path: Path) -> None:
    odd = "../../../../outside"
    PartitionWriter(files, TOPIC, 0).write([record(0, odd)], 1)
    assert [entry.scenario for entry in all_of(files)] == [odd]
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_writer_goes_on_where_the_last_manifest_ends(files: LocalFiles) -> None:
    assert PartitionWriter(files, TOPIC, 0).position == 0
    PartitionWriter(files, TOPIC, 0).write([record(500)], 501)  # what came before was gone from the topic
    again = PartitionWriter(files, TOPIC, 0)
    assert again.position == 501
    again.write([], 502)  # a control record
    assert PartitionWriter(files, TOPIC, 0).position == 502
    assert PartitionWriter(files, TOPIC, 1).position == 0


def test_the_slower_of_two_writers_is_told_and_leaves_nothing(files: LocalFiles, tmp_path: Path) -> None:
    stale, fresh = PartitionWriter(files, TOPIC, 0), PartitionWriter(files, TOPIC, 0)
    fresh.write([record(0), record(1)], 2)
    with pytest.raises(Overtaken):
        stale.write([record(0), record(1), record(2)], 3)
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert stale.reopen() == 2
    stale.write([record(2)], 3)
    assert [entry.offset for entry in all_of(files)] == [0, 1, 2]


class Twice(LocalFiles):
    """A share whose answer is lost: the creation is asked for again, and finds what it made."""

    def create(self, path: str, data: bytes) -> None:
        super().create(path, data)
        if path.startswith("manifests"):
            super().create(path, data)


def test_a_manifest_that_was_created_twice_by_one_writer_is_its_own(tmp_path: Path) -> None:
    files = Twice(tmp_path / "archive")
    writer = PartitionWriter(files, TOPIC, 0)
    writer.write([record(0)], 1)
    assert (writer.position, [entry.offset for entry in all_of(files)]) == (1, [0])


def test_of_racing_writers_each_offset_is_archived_by_one(files: LocalFiles) -> None:
    start, offsets = Barrier(4), 40

    def work() -> None:
        writer = PartitionWriter(files, TOPIC, 0)
        start.wait(30)
        while writer.position < offsets:
            end = min(offsets, writer.position + 3)
            try:
                writer.write([record(offset) for offset in range(writer.position, end)], end)
            except Overtaken:
                writer.reopen()

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [entry.offset for entry in all_of(files)] == list(range(offsets))


@pytest.mark.parametrize(
    ("records", "end"),
    [
        ([], 0),
        ([record(5)], 5),
        ([record(1), record(1)], 5),
        ([record(1, partition=1)], 5),
        ([replace(record(1), topic="another")], 5),
        ([replace(record(1), id="")], 5),
    ],
)
def test_offsets_that_are_not_the_writers_are_refused(files: LocalFiles, records: list[Record], end: int) -> None:
    with pytest.raises(Refused):
        PartitionWriter(files, TOPIC, 0).write(records, end)
    assert all_of(files) == []


# ---------------------------------------------------------------------------------------------------- dying


@pytest.mark.parametrize("step", ["manifest", "after"])
def test_a_writer_killed_around_its_manifest_loses_and_doubles_nothing(tmp_path: Path, step: str) -> None:
    """20 offsets by fours: process after process is killed before or just after it creates a manifest, until one gets
    through."""
    root, ends = tmp_path / "archive", []
    command = [sys.executable, "-m", "tests.unit.pipeline.archive_process", str(root), step]
    for _ in range(20):
        ends.append(subprocess.run(command, timeout=120, check=False).returncode)
        if ends[-1] == 0:
            break
    files = open_files(str(root))
    assert [entry.offset for entry in read(files, snapshot(files))] == list(range(20))
    assert ends == [-signal.SIGKILL] * (4 if step == "manifest" else 5) + [0]
    orphans = len(list(root.rglob("*.parquet"))) - sum(len(entry.files) for entry in snapshot(files).manifests)
    assert orphans == (4 if step == "manifest" else 0)
    assert len(sweep(files, -60)) == orphans
    assert [entry.offset for entry in read(files, snapshot(files))] == list(range(20))


def test_sweeping_spares_what_is_young(files: LocalFiles) -> None:
    files.create("data/day=2026-03-01/scenario=math/left.parquet", b"half")
    assert sweep(files, 3600) == ()
    assert sweep(files, -60) == ("data/day=2026-03-01/scenario=math/left.parquet",)


# ---------------------------------------------------------------------------------------------------- reading


def test_what_no_manifest_names_does_not_count(files: LocalFiles) -> None:
    PartitionWriter(files, TOPIC, 0).write([record(0)], 1)
    files.create("data/day=2026-03-01/scenario=math/other.parquet", to_parquet([record(9)]))
    assert [entry.offset for entry in all_of(files)] == [0]


def test_a_snapshot_stays_what_it_was_and_has_a_name(files: LocalFiles) -> None:
    writer = PartitionWriter(files, TOPIC, 0)
    writer.write([record(0)], 1)
    before = snapshot(files)
    assert (before.rows, before.digest) == (1, snapshot(files).digest)
    writer.write([record(1)], 2)
    assert [entry.offset for entry in read(files, before)] == [0]
    assert snapshot(files).digest != before.digest


def test_a_missing_manifest_is_found(files: LocalFiles) -> None:
    writer = PartitionWriter(files, TOPIC, 0)
    manifests = [writer.write([record(offset)], offset + 1) for offset in range(3)]
    files.delete(manifests[1].path)
    with pytest.raises(CorruptArchive, match="starts at 2, expected at 1"):
        snapshot(files)


def test_a_changed_or_missing_data_file_is_found(files: LocalFiles) -> None:
    manifest = PartitionWriter(files, TOPIC, 0).write([record(0)], 1)
    files.replace(manifest.files[0].path, to_parquet([record(1)]))
    with pytest.raises(CorruptArchive, match="not what was written"):
        all_of(files)
    files.delete(manifest.files[0].path)
    with pytest.raises(CorruptArchive, match="it is not there"):
        all_of(files)


def test_a_manifest_of_another_format_or_place_is_not_read(files: LocalFiles) -> None:
    manifest = PartitionWriter(files, TOPIC, 0).write([record(0)], 1)
    plain = json.loads(files.read(manifest.path))
    files.replace(manifest.path, json.dumps({**plain, "format": 2}).encode())
    with pytest.raises(CorruptArchive, match="format is 2"):
        snapshot(files)
    files.replace(manifest.path, json.dumps({**plain, "topic": "another"}).encode())
    with pytest.raises(CorruptArchive, match="other offsets"):
        snapshot(files)


def test_fields_that_newer_software_adds_to_a_manifest_are_left_out(files: LocalFiles) -> None:
    manifest = PartitionWriter(files, TOPIC, 0).write([record(0)], 1)
    plain = json.loads(files.read(manifest.path))
    files.replace(manifest.path, json.dumps({**plain, "schema": 9, "added": 1}).encode())
    assert [entry.offset for entry in all_of(files)] == [0]
