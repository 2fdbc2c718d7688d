"""`themis-pipeline archive show` and `sweep` on a directory."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from tests.unit.pipeline.archive_samples import TOPIC, record
from themis_judge.store.local import LocalFiles
from themis_pipeline.archive import PartitionWriter, read, snapshot
from themis_pipeline.archive.command import add_archive

LEFT = "data/day=2026-03-01/scenario=math/left.parquet"


def call(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_archive(parser.add_subparsers())
    args = parser.parse_args(["archive", *map(str, arguments)])
    return int(args.run(args))


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    """Two partitions, and a file that a writer left behind two days ago."""
    made = LocalFiles(tmp_path / "archive")
    writer = PartitionWriter(made, TOPIC, 0)
    writer.write([record(0), record(1)], 2)
    writer.write([record(2)], 5)
    PartitionWriter(made, TOPIC, 3).write([record(0, partition=3)], 1)
    made.create(LEFT, b"half")
    path = tmp_path / "archive" / LEFT
    os.utime(path, (path.stat().st_mtime - 2 * 86400,) * 2)
    return made


def test_what_an_archive_holds_is_shown(files: LocalFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", tmp_path / "archive") == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"{TOPIC}/0: 3 records in 2 manifests, up to offset 5",
        f"{TOPIC}/3: 1 records in 1 manifests, up to offset 1",
        f"4 records, snapshot {snapshot(files).digest}",
    ]


def test_what_no_manifest_names_is_swept_when_it_is_old(
    files: LocalFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("sweep", tmp_path / "archive", "--older-than-h", "72") == 0
    assert (tmp_path / "archive" / LEFT).exists()
    assert call("sweep", tmp_path / "archive") == 0
    assert not (tmp_path / "archive" / LEFT).exists()
    assert capsys.readouterr().out.splitlines() == ["0 data files removed", "1 data files removed"]
    assert len(list(read(files, snapshot(files)))) == 4


def test_what_can_not_be_done_is_said(files: LocalFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("sweep", tmp_path / "archive", "--older-than-h", "0.1") == 2
    assert "--older-than-h: is 0.1" in capsys.readouterr().err
    files.delete(snapshot(files).manifests[0].path)
    assert call("show", tmp_path / "archive") == 2
    assert "a manifest starts at 2, expected at 0" in capsys.readouterr().err
