"""`themis label-pairs` against a real server: what it writes, and what it says of what it can't write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tests.integration.pairs_parts import JUDGE, failures_of, journal_of, label, read, rows, write
from tests.integration.sidecar_fakes import VERSION
from tests.integration.sidecar_running import Running, running
from themis_client.cli import BAD_INPUT, NO_SERVER, OK, SOME_FAILED, main


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("pairs"), module=JUDGE) as found:
        yield found


def run(served: Running, source: Path, output: Path, *flags: str) -> int:
    return main(["label-pairs", str(source), "-o", str(output), "-s", served.address, *flags])


def test_texts(served: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in.jsonl", [{"prompt": "wie?", "responses": ["ja", "a" * 12, "nein"], "id": 17}])
    output = tmp_path / "out.jsonl"
    assert run(served, source, output) == OK
    assert read(output) == [
        {
            "prompt": "wie?",
            "chosen": "a" * 12,
            "rejected": "ja",
            "margin": 0.5,
            "tie": False,
            "chosen_score": 0.6,
            "rejected_score": 0.1,
            "chosen_index": 1,
            "rejected_index": 0,
            "disagreement": None,
            "by": "score",
            "version": VERSION,
            "scenario": "math",
            "id": "17",
            "line": 1,
        }
    ]
    assert not failures_of(output).exists()
    shown = capsys.readouterr()
    assert shown.err == ""
    for line in ("prompts 1", "pairs 1", "margin, median 0.500", f"version {VERSION}", "failed prompts 0"):
        assert line in [" ".join(one.split()) for one in shown.out.splitlines()]


def test_messages_stay_messages(served: Running, tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"}]
    mine = [{"role": "assistant", "content": "aaaa"}]
    source = write(
        tmp_path / "in.jsonl",
        [{"prompt": turns, "responses": ["a", mine, {"role": "assistant", "content": "aa"}], "scenario": "coding"}],
    )
    output = tmp_path / "out.jsonl"
    assert run(served, source, output) == OK
    [pair] = read(output)
    assert (pair["prompt"], pair["chosen"]) == (turns, mine)
    assert pair["rejected"] == [{"role": "assistant", "content": "a"}]


@pytest.mark.parametrize("form", ["texts", "messages"])
def test_parquet_in_and_out_holds_what_json_lines_hold(served: Running, tmp_path: Path, form: str) -> None:
    values = rows(70)
    if form == "messages":
        values = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in values]
        as_turns = [[[{"role": "assistant", "content": text}] for text in row["responses"]] for row in values]
        values = [{**row, "responses": turns} for row, turns in zip(values, as_turns, strict=True)]
    source, parquet = write(tmp_path / "in.jsonl", values), tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pylist(values), parquet)
    flags = ("--pairs", "all", "--ties", "keep")
    assert run(served, source, tmp_path / "out.jsonl", *flags) == OK
    assert run(served, parquet, tmp_path / "out.parquet", *flags) == OK
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.to_pylist() == read(tmp_path / "out.jsonl")
    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    assert found.schema.field("chosen").type == (turns if form == "messages" else pa.string())
    assert found.schema.field("prompt").type == found.schema.field("rejected").type == found.schema.field("chosen").type
    assert found.num_rows > 100


def test_by_comparison(served: Running, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"prompt": "q", "responses": ["a" * 4, "b" * 12, "c" * 8]}])
    output = tmp_path / "out.jsonl"
    assert run(served, source, output, "--by", "compare") == OK
    [pair] = read(output)
    assert (pair["chosen_index"], pair["rejected_index"], pair["by"]) == (1, 0, "compare")
    assert (pair["chosen_score"], pair["rejected_score"]) == pytest.approx((0.65, 0.35))
    assert pair["margin"] == pytest.approx(0.3)
    assert pair["disagreement"] == 0.25


def test_rounds_bound_the_comparisons(served: Running, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"prompt": "q", "responses": ["a" * n for n in range(1, 11)]}])
    before = sum(one["items"] for one in served.events("call") if one["method"] == "Compare")
    assert run(served, source, tmp_path / "out.jsonl", "--by", "compare", "--rounds", "4", "--seed", "3") == OK
    assert sum(one["items"] for one in served.events("call") if one["method"] == "Compare") - before == 20


def test_ties(served: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [
        {"prompt": "equal", "responses": ["aa", "bb"]},
        {"prompt": "close", "responses": ["a" * 10, "b" * 11]},
        {"prompt": "far", "responses": ["a" * 2, "b" * 12]},
        {"prompt": "the same", "responses": ["a", "a", "a"]},
    ]
    source = write(tmp_path / "in.jsonl", values)
    assert run(served, source, tmp_path / "dropped.jsonl", "--min-margin", "0.2") == OK
    assert [pair["prompt"] for pair in read(tmp_path / "dropped.jsonl")] == ["far"]
    assert " ".join(capsys.readouterr().out.split()).count("ties, dropped 2 prompts without a pair 3") == 1
    assert run(served, source, tmp_path / "kept.jsonl", "--min-margin", "0.2", "--ties", "keep") == OK
    kept = [(pair["prompt"], pair["tie"], pair["chosen_index"]) for pair in read(tmp_path / "kept.jsonl")]
    assert kept == [("equal", True, 0), ("close", True, 1), ("far", False, 1)]


def test_all_pairs_are_bounded_and_what_is_left_out_is_told(
    served: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.jsonl", [{"prompt": "q", "responses": ["a" * n for n in (1, 5, 9, 19)]}])
    output = tmp_path / "out.jsonl"
    assert run(served, source, output, "--pairs", "all", "--pairs-per-prompt", "4") == OK
    found = [(pair["chosen_index"], pair["rejected_index"]) for pair in read(output)]
    assert found == [(3, 0), (3, 1), (3, 2), (2, 0)]
    assert "pairs above the bound per prompt 2" in " ".join(capsys.readouterr().out.split())


def test_what_fails_has_no_pair(served: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values: list[object] = [
        {"prompt": "good", "responses": ["a", "bb"]},
        {"prompt": "one fails", "responses": ["a", "a", "TOO_LONG", "bb"], "id": "bad"},
        "nonsense",
        "",
        {"prompt": "alone", "responses": ["a"]},
        {"prompt": "q", "responses": ["a", "b"], "refernce": "r"},
        {"prompt": [{"role": "user", "content": "q"}], "responses": ["a", "b"]},
        {"prompt": "q", "responses": ["a", "\ud800"]},
        {"prompt": "q", "responses": ["a", [{"role": "assistant", "content": "b"}]]},
    ]
    source, output = write(tmp_path / "in.jsonl", values), tmp_path / "out.jsonl"
    assert run(served, source, output) == SOME_FAILED
    assert [pair["prompt"] for pair in read(output)] == ["good"]
    failed = read(failures_of(output))
    assert [(one["line"], one["status"], one["error"]) for one in failed] == [
        (2, "TOO_LONG", "responses[2]: it went wrong"),
        (3, "INVALID", "line 3: not JSON: Expecting value at column 1"),
        (5, "INVALID", "line 5: responses: 2 at least are needed, not 1"),
        (6, "INVALID", "line 6: refernce: unknown field; there are prompt, responses, reference, scenario, id"),
        (7, "INVALID", "line 7: prompt: it is messages, and the file's first one is a text: they share a column"),
        (8, "INVALID", "line 8: responses[1]: lone surrogate at character 0: not text"),
        (9, "INVALID", "line 9: responses[1]: a text, as the prompt is one, is needed, not list"),
    ]
    assert failed[0]["id"] == "bad"
    assert failed[0]["responses"] == [{"index": 2, "status": "TOO_LONG", "error": "responses[2]: it went wrong"}]
    said = capsys.readouterr().err.splitlines()
    assert said[:6] == [f"themis: {one['error']}" for one in failed[1:]]
    assert said[6:] == [f"themis: 7 of 8 prompts failed, see {failures_of(output)}"]


def test_a_comparison_that_fails_leaves_no_standing(served: Running, tmp_path: Path) -> None:
    values = [{"prompt": "q", "responses": ["a", "a", "bb", "TOO_LONG"]}, {"prompt": "q", "responses": ["a", "bb"]}]
    source, output = write(tmp_path / "in.jsonl", values), tmp_path / "out.jsonl"
    assert run(served, source, output, "--by", "compare") == SOME_FAILED
    assert [pair["line"] for pair in read(output)] == [2]
    [failed] = read(failures_of(output))
    assert [one["index"] for one in failed["responses"]] == [0, 2, 3]
    assert "responses[3]: it went wrong" in failed["error"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"nonsense\n", b"\xff\n", b'{"prompt": "q"}\n'])
def test_nothing_to_label(served: Running, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(content)
    assert run(served, source, output) == BAD_INPUT
    assert f"nothing to label in {source}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"prompt": ["q"], "answers": [["a"]]}, "unknown column 'answers'; there are prompt, responses"),
        (None, "in.parquet: "),
    ],
)
def test_parquet_that_cant_be_read(
    served: Running, tmp_path: Path, columns: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.parquet"
    if columns is None:
        source.write_bytes(b"PAR1 or not")
    else:
        pq.write_table(pa.table(columns), source)
    assert run(served, source, tmp_path / "out.jsonl") == BAD_INPUT
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [source]


def test_rows_of_parquet_that_cant_be_read(served: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    columns = {"prompt": ["q", None, "r"], "responses": [["a", "bb"], ["a", "bb"], ["a"]], "id": [1, 2, 3]}
    pq.write_table(pa.table(columns), source)
    assert run(served, source, output) == SOME_FAILED
    assert pq.read_table(output).column("id").to_pylist() == ["1"]
    told = ["row 2: prompt: missing", "row 3: responses: 2 at least are needed, not 1"]
    assert [one["error"] for one in read(failures_of(output))] == told
    assert all(line in capsys.readouterr().err for line in told[:1])


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--min-margin", "1.5"], "'1.5' is not a number from 0 to 1"),
        (["--min-margin", "nan"], "'nan' is not a number from 0 to 1"),
        (["--pairs-per-prompt", "0"], "'0' is not a whole number from 1 on"),
        (["--resume", "--overwrite"], "not allowed with"),
        (["-o", "out.csv"], "ends neither in .jsonl nor in .parquet"),
        (["--pairs-per-prompt", "3"], "--pairs-per-prompt goes with --pairs all"),
        (["--mode", "critique", "--by", "compare"], "--mode goes with --by score"),
        (["--rounds", "2"], "--rounds goes with --by compare"),
        (["--seed", "2", "--by", "compare"], "--seed goes with --rounds"),
        (["--version", "nobodys"], "no replica has version 'nobodys'"),
        (["-s", ","], "no address in ','"),
    ],
)
def test_usage(served: Running, tmp_path: Path, flags: list[str], told: str) -> None:
    source = write(tmp_path / "in.jsonl", rows(3))
    code, said = label(source, tmp_path / "out.jsonl", served.address, *flags)
    assert told in said
    assert code == BAD_INPUT
    assert list(tmp_path.iterdir()) == [source]


def test_no_file(served: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(served, tmp_path / "in.jsonl", tmp_path / "out.jsonl") == BAD_INPUT
    assert "No such file" in capsys.readouterr().err


def test_nobody_there(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", rows(3))
    code, said = label(source, tmp_path / "out.jsonl", "127.0.0.1:9", "--call-timeout", "0.5")
    assert code == NO_SERVER
    assert "127.0.0.1:9: " in said
    assert list(tmp_path.iterdir()) == [source]


def test_help_says_what_goes_in_and_comes_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["label-pairs", "--help"])
    shown = capsys.readouterr().out
    assert "OUT.journal.jsonl" in shown
    assert '{"prompt": "...", "responses": ["...", "..."]}' in shown


def test_the_input_is_not_the_output(served: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in.jsonl", rows(3))
    before = source.read_bytes()
    (tmp_path / "out.jsonl").symlink_to(source)
    assert run(served, source, tmp_path / "out.jsonl", "--overwrite") == BAD_INPUT
    assert "out.jsonl is the input" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_what_is_there_is_not_overwritten_unasked(
    served: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = write(tmp_path / "in.jsonl", rows(3)), tmp_path / "out.jsonl"
    output.write_text("somebody's\n")
    for flags in ((), ("--resume",)):
        assert run(served, source, output, *flags) == BAD_INPUT
        assert "no journal of it: --overwrite replaces it" in capsys.readouterr().err
    assert output.read_text() == "somebody's\n"
    assert not journal_of(output).exists()
    assert run(served, source, output, "--overwrite") == OK
    assert len(read(output)) == 3
    assert run(served, source, output) == BAD_INPUT
    assert "--resume goes on from it" in capsys.readouterr().err
    assert run(served, write(source, rows(5)), output, "--overwrite") == OK
    assert len(read(output)) == 5
    assert json.loads(journal_of(output).read_text().splitlines()[0])["version"] == VERSION
