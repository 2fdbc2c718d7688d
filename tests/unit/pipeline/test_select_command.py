"""`themis-pipeline select` on a real archive: what it writes, and that it writes the same again."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.pipeline.archive_samples import TOPIC, record
from themis_pipeline.archive import PartitionWriter, Record, open_files
from themis_pipeline.archive.parquet import from_parquet
from themis_pipeline.select.command import add_select
from themis_pipeline.select.outcome import Decision, Outcome, Reason
from themis_pipeline.select.picture import COLORS, draw
from themis_pipeline.select.report import report

COUNT = 40


def call(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_select(parser.add_subparsers())
    args = parser.parse_args(["select", *map(str, arguments)])
    return int(args.run(args))


def records() -> list[Record]:
    """Of two scenarios; one outlier, one that the prompt harms, one without a difficulty, two that ask the same."""
    found = []
    for offset in range(COUNT):
        one = record(offset, "math" if offset % 2 else "open_qa")
        asked = replace(one.messages[0], text=hashlib.sha256(bytes([offset])).hexdigest())
        found.append(replace(one, messages=(asked,), log_perplexity_ratio=-0.5 - 0.01 * offset, mean_loss_ratio=0.5))
    found[0] = replace(found[0], log_perplexity_ratio=7.0)
    found[1] = replace(found[1], log_perplexity_ratio=0.001)
    found[2] = replace(found[2], scorer=None, log_perplexity_ratio=None, mean_loss_ratio=None)
    found[3] = replace(found[3], messages=found[5].messages)
    return found


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    writer = PartitionWriter(open_files(str(tmp_path / "archive")), TOPIC, 0)
    writer.write(records()[:25], 25)
    writer.write(records()[25:], COUNT)
    return tmp_path / "archive"


def test_what_is_chosen_is_written_and_explained(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(archive, "--out", tmp_path / "out", "--top", "10") == 0
    kept = list(from_parquet((tmp_path / "out/records.parquet").read_bytes(), "here"))
    assert len(kept) == 10
    assert all(one in records() for one in kept)
    decisions = [json.loads(line) for line in (tmp_path / "out/decisions.jsonl").read_text().splitlines()]
    reasons = {one["id"]: one["reason"] for one in decisions}
    assert len(decisions) == COUNT
    assert reasons["r0-0"] == "outlier"
    assert reasons["r0-2"] == "without a difficulty"
    assert sorted((reasons["r0-3"], reasons["r0-5"])) == ["kept", "near-duplicate"]
    assert {id for id, reason in reasons.items() if reason == "kept"} == {one.id for one in kept}
    summary = json.loads((tmp_path / "out/selection.json").read_text())
    assert (summary["counts"]["kept"], summary["settings"]["top"]) == (10, 10)
    assert (tmp_path / "out/selection.png").read_bytes().startswith(b"\x89PNG")
    told = capsys.readouterr().out
    assert "near-duplicate" in told
    assert "10 records in" in told


def test_the_same_settings_choose_the_same(archive: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert call(archive, "--out", tmp_path / name, "--share", "0.3", "--order", "random", "--seed", "5") == 0
    for file in ("records.parquet", "decisions.jsonl", "selection.json", "pool.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert call(archive, "--out", tmp_path / "three", "--share", "0.3", "--order", "random", "--seed", "6") == 0
    assert (tmp_path / "one/decisions.jsonl").read_text() != (tmp_path / "three/decisions.jsonl").read_text()


def test_an_earlier_pool_tells_outliers_again(archive: Path, tmp_path: Path) -> None:
    assert call(archive, "--out", tmp_path / "one") == 0
    pool = json.loads((tmp_path / "one/pool.json").read_text())
    for entry in pool:
        entry["deviation"] = 1e9  # by which nothing is an outlier
    (tmp_path / "wide.json").write_text(json.dumps(pool))
    assert call(archive, "--out", tmp_path / "two", "--pool", tmp_path / "wide.json") == 0
    decisions = [json.loads(line) for line in (tmp_path / "two/decisions.jsonl").read_text().splitlines()]
    assert {one["id"]: one["reason"] for one in decisions}["r0-0"] == "above 1"


def test_settings_reach_the_selection(archive: Path, tmp_path: Path) -> None:
    options = ["--keep-above-one", "--outlier-z", "none", "--similarity", "none", "--keep-triggers"]
    ratios = ["--ratio", "math=2", "--ratio", "open_qa=1", "--definition", "mean_loss_ratio", "--scorer", "s1"]
    assert call(archive, "--out", tmp_path / "out", *options, *ratios) == 0
    summary = json.loads((tmp_path / "out/selection.json").read_text())
    kept = [one.scenario for one in from_parquet((tmp_path / "out/records.parquet").read_bytes(), "here")]
    assert (kept.count("math"), kept.count("open_qa")) == (20, 10)
    assert summary["settings"]["definition"] == "mean_loss_ratio"
    assert summary["counts"]["outlier"] == summary["counts"]["near-duplicate"] == summary["counts"]["above 1"] == 0


def test_what_can_not_be_done_is_said_and_nothing_is_written(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    assert call(archive, "--out", tmp_path / "there") == 2
    assert "is there already" in capsys.readouterr().err
    assert call(archive, "--out", tmp_path / "out", "--share", "2") == 2
    assert "share" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text('[{"scenario": "math"}]')
    assert call(archive, "--out", tmp_path / "out", "--pool", tmp_path / "bad.json") == 2
    assert "is no pool" in capsys.readouterr().err
    next(archive.rglob("*.parquet")).write_bytes(b"gone")
    assert call(archive, "--out", tmp_path / "out") == 2
    assert "not what was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_empty_archive_gives_an_empty_selection(tmp_path: Path) -> None:
    assert call(tmp_path / "nothing", "--out", tmp_path / "out") == 0
    assert list(from_parquet((tmp_path / "out/records.parquet").read_bytes(), "here")) == []


# ---------------------------------------------------------------------------------------------------- shown


def outcome() -> Outcome:
    found = [
        Decision(f"{scenario}{n}", scenario, "single", str(n % 5 + 1), n / 50 - 1, reason)
        for scenario in ("math", "open_qa")
        for n, reason in enumerate([reason for reason in Reason for _ in range(6)])
    ]
    return Outcome(
        (*found, Decision("none", "legal", "single", "1", None, Reason.NOT_SCORED)), {}, (), {"math": 3}, 0.0
    )


def test_the_table_counts_every_reason() -> None:
    console = Console(record=True, width=400, file=io.StringIO())
    console.print(report(outcome()))
    text = console.export_text()
    for reason in Reason:
        assert reason.value in text
    (row,) = (line for line in text.splitlines() if "open_qa" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][1:3] == [str(6 * len(Reason)), "6"]
    assert "3 records of math were asked for and are not there" in text
    assert "nothing of legal is kept" in text


def test_the_picture_shows_each_scenario_and_reason(tmp_path: Path) -> None:
    draw(outcome(), tmp_path / "picture.svg", "what was asked for")
    drawn = (tmp_path / "picture.svg").read_text()
    ET.fromstring(drawn)
    for words in ("all scenarios: 12 of", "math: 6 of", "open_qa: 6 of", "near-duplicate", "what was asked for"):
        assert words in drawn
    assert set(COLORS) == set(Reason) - {Reason.NOT_SCORED}
