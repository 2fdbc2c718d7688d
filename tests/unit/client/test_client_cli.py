"""The command: inputs, formats, exit codes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from tests.unit.client.judge_process import judge_process
from themis_client import cli, cli_layouts, cli_output
from themis_client.cli import BAD_INPUT, NO_SERVER, OK, SOME_FAILED, main
from themis_client.failure import Failure, Status
from themis_client.jsonform import compare_json, score_json
from themis_client.results import (
    CriterionVerdict,
    Critique,
    CritiquePoint,
    RatingProbability,
    ReasoningSample,
    Score,
    Verdict,
)
from themis_client.retry import RetryPolicy
from themis_proto.v1 import judge_pb2 as pb

GOOD: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "q"}], "response": "0.5", "key": "chat"},
    {"messages": [{"role": "user", "parts": [{"text": "q"}]}], "response": "1.0", "key": "parts", "group": "g"},
]
PAIRS = [{"messages": "q", "response_a": "0.5", "response_b": "0.25", "key": "p"}]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with judge_process() as found:
        yield found


@pytest.fixture(autouse=True)
def environment(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEMIS_SERVER", address)


def lines(path: Path, values: Sequence[object]) -> str:
    path.write_text("".join(f"{value if isinstance(value, str) else json.dumps(value)}\n" for value in values))
    return str(path)


def test_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", lines(tmp_path / "in", GOOD)]) == OK
    assert capsys.readouterr() == (
        "#  key    scenario  rating  distribution  score  status\n"
        "1  chat   open_qa   3.00    ▁▁█▁▁         0.500  OK\n"
        "2  parts  open_qa   5.00    ▁▁▁▁█         1.000  OK\n",
        "",
    )


def test_json_lines_are_the_contracts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", lines(tmp_path / "in", GOOD), "--format", "jsonl"]) == OK
    found = [json_format.Parse(line, pb.Result()) for line in capsys.readouterr().out.splitlines()]
    assert [(one.key, one.group, one.status, one.verdict.score) for one in found] == [
        ("chat", "", pb.ITEM_STATUS_OK, 0.5),
        ("parts", "g", pb.ITEM_STATUS_OK, 1.0),
    ]
    assert found[0].verdict.label_mass == 0.9
    assert not found[0].HasField("scenario_probability")


def test_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    out = tmp_path / "out.parquet"
    source = lines(tmp_path / "in", [*GOOD, {**GOOD[0], "key": "bad"}])
    assert main(["score", source, "--format", "parquet", "-o", str(out)]) == SOME_FAILED
    rows = parquet.read_table(out).to_pylist()
    assert [(row["key"], row["status"], row["score"], row["rating"]) for row in rows] == [
        ("chat", "OK", 0.5, 3),
        ("parts", "OK", 1.0, 5),
        ("bad", "OFF_FORMAT", None, None),
    ]
    assert rows[0]["probabilities"][2] == {"rating": 3, "probability": 1.0}
    assert json.loads(rows[0]["result_json"])["verdict"]["score"] == 0.5


def test_an_output_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["score", lines(tmp_path / "in", GOOD), "--format", "jsonl", "-o", str(out)]) == OK
    assert len(out.read_text().splitlines()) == 2
    assert capsys.readouterr().out == ""


def test_bad_lines_are_named_and_the_others_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong: list[dict[str, Any]] = [{"response": None}, {"reference": 3, "key": "k"}, {"key": "\ud800"}]
    bad = ["{", "", "[]", *({**GOOD[0], **fields} for fields in wrong)]
    assert main(["score", lines(tmp_path / "in", [GOOD[0], *bad, GOOD[1]]), "--format", "jsonl"]) == SOME_FAILED
    out, told = capsys.readouterr()
    found = [json_format.Parse(line, pb.Result()) for line in out.splitlines()]
    assert [one.status == pb.ITEM_STATUS_OK for one in found] == [True, False, False, False, False, False, True]
    assert "themis: line 2: not JSON: " in told
    assert "themis: line 4: an object is needed, not list\n" in told
    assert "themis: line 5: response: missing\n" in told
    assert "themis: line 6: reference: a text is needed, not int\n" in told
    assert "themis: line 7: key: lone surrogate at character 0: not text\n" in told
    assert told.endswith("themis: 5 of 7 items failed\n")
    assert [one.error_field for one in found[1:6]] == ["", "", "response", "reference", "key"]
    assert not any(one.HasField("verdict") for one in found[1:6])


def test_bytes_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_bytes(b'{"messages": "\xff"}\n')
    assert main(["score", str(tmp_path / "in")]) == BAD_INPUT
    assert "line 1: not UTF-8: byte 14" in capsys.readouterr().err


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.dumps(GOOD[0])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["score", "-"]) == OK
    assert "chat" in capsys.readouterr().out


@pytest.mark.parametrize("content", [[], ["{"], [""]])
def test_nothing_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: list[str]) -> None:
    assert main(["score", lines(tmp_path / "in", content)]) == BAD_INPUT
    out, told = capsys.readouterr()
    assert out == ""
    assert "nothing to score in" in told


def test_no_such_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "/nowhere.jsonl"]) == BAD_INPUT
    assert "/nowhere.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["score"],
        ["score", "x", "--mode", "guess"],
        ["score", "x", "--format", "parquet"],
        ["score", "x", "--timeout", "0"],
        ["describe", "x"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == BAD_INPUT
    assert "usage: themis" in capsys.readouterr().err


def test_a_server_that_is_no_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", lines(tmp_path / "in", GOOD), "-s", "host:port"]) == BAD_INPUT
    assert "--server: 'host:port' is not name:port" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["score", "IN"], ["compare", "IN"], ["describe"]])
def test_no_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(cli, "RETRY", RetryPolicy(attempts=1))
    source = lines(tmp_path / "in", GOOD if command[0] == "score" else PAIRS)
    arguments = [source if one == "IN" else one for one in command]
    assert main([*arguments, "-s", "127.0.0.1:1"]) == NO_SERVER
    assert "themis: 127.0.0.1:1: Unavailable: " in capsys.readouterr().err


def test_an_unknown_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", lines(tmp_path / "in", GOOD), "--version", "v9"]) == BAD_INPUT
    assert "v9" in capsys.readouterr().err


def test_a_version_and_the_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = lines(tmp_path / "in", GOOD)
    assert main(["score", source, "--version", "v2", "--show-prompt", "--mode", "critique"]) == OK
    assert "[1] prompt:\nthe prompt\n" in capsys.readouterr().out


def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = lines(tmp_path / "in", [*PAIRS, {"messages": "q", "response_a": "0"}])
    assert main(["compare", source]) == SOME_FAILED
    out, told = capsys.readouterr()
    assert "1  p              A       A 0.50 B 0.25 tie 0.25  0.10          OK" in out
    assert "INVALID: line 2: response_b: missing" in out
    assert "1 of 2 items failed" in told
    assert main(["compare", source, "--format", "jsonl"]) == SOME_FAILED
    found = [json_format.Parse(line, pb.CompareResult()) for line in capsys.readouterr().out.splitlines()]
    assert found[0].verdict.preference == pb.PREFERENCE_A
    assert found[0].prompts == ["one", "two"]
    assert found[1].status == pb.ITEM_STATUS_INVALID
    assert not found[1].HasField("verdict")


def test_compare_in_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    out = tmp_path / "out"
    source = lines(tmp_path / "in", [*PAIRS, {"messages": "q"}])
    assert main(["compare", source, "--format", "parquet", "-o", str(out)]) == SOME_FAILED
    rows = parquet.read_table(out).to_pylist()
    assert [(row["preference"], row["probability_a"]) for row in rows] == [("A", 0.5), (None, None)]


def test_describe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe"]) == OK
    out = capsys.readouterr().out
    assert "themis-sidecar 0.0.1, current version v1" in out
    assert "v2       double" in out
    assert "open_qa   Open QA  1" in out


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["score", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert all(f"\n  {code}  " in out for code in (OK, SOME_FAILED, BAD_INPUT, NO_SERVER))
    assert "$THEMIS_SERVER" in out


def test_without_the_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "pyarrow.parquet", "rich", "rich.table", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    source = lines(tmp_path / "in", GOOD)
    assert main(["score", source]) == OK
    assert main(["score", source, "--format", "jsonl"]) == OK
    assert main(["score", source, "--format", "parquet", "-o", str(tmp_path / "out")]) == BAD_INPUT
    assert capsys.readouterr().err == "themis: Parquet needs pyarrow: pip install 'themis-sidecar[cli]'\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, progress = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", progress)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["score", lines(tmp_path / "in", [{**GOOD[0], "key": "[red]k[/red]"}])]) == OK
    assert "[red]k[/red]" in screen.getvalue()
    assert "judging" in progress.getvalue()


def test_all_details_of_a_score() -> None:
    ratings = (RatingProbability(1, 0.25), RatingProbability(2, 0.75))
    verdict = Verdict(
        expected_rating=0.0,
        rating=1,
        score=0.0,
        probabilities=ratings,
        critique=Critique((CritiquePoint("clear", 5),), (CritiquePoint("short", 2),), "text"),
        criteria=(CriterionVerdict("c1", 1.0, 1.75, 2, ratings),),
        samples=(ReasoningSample("because", 1.5, cut=True),),
    )
    score = Score(verdict, "v1", reasoning_verdict=verdict, scenario_probability=0.5)
    found = json_format.Parse(score_json(score), pb.Result())
    assert found.verdict == found.reasoning_verdict
    assert found.verdict.critique.shortcomings[0].text == "short"
    assert found.verdict.criteria[0].probabilities[1].probability == 0.75
    assert found.verdict.samples[0].cut
    assert json.loads(score_json(score))["verdict"]["score"] == 0.0
    assert cli_layouts.SCORES.notes(score) == ["+ (5) clear", "- (2) short", "c1: 1.75 ▃▆", "(1.50) because"]


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_failures_have_no_number_in_any_format(status: Status) -> None:
    failure = Failure(status, "it\nfailed", "items[0]", "k", "g", "v1", "math")
    found = json.loads(score_json(failure))
    assert (found["status"], found["error_field"]) == (pb.ItemStatus.Name(status.value), "items[0]")  # type: ignore[arg-type]
    assert "verdict" not in found
    assert "verdict" not in json.loads(compare_json(failure))
    for layout in (cli_layouts.SCORES, cli_layouts.COMPARISONS):
        assert not any(isinstance(value, (int, float)) for value in layout.columns(failure).values())
        assert layout.cells(failure)[-1] == f"{status.name}: it failed"


def test_bars() -> None:
    ratings = [RatingProbability(i, p) for i, p in enumerate([0.0, 0.05, 0.125, 0.5, 1.0, 1.0000001])]
    assert cli_layouts.bars(ratings) == "▁▁▂▅██"


def test_progress_off_a_terminal_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with cli_output.progress(3) as advance:
        advance()
    assert capsys.readouterr().err == ""
