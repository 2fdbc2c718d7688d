"""`themis label-pairs` killed, left by its server, and started again: it ends with the file of an undisturbed run."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.pairs_parts import JUDGE, failures_of, journal_of, label, read, recorded, rows, start, write
from tests.integration.sidecar_fakes import VERSION
from tests.integration.sidecar_running import Running, free_port, running, until
from themis_client.cli import BAD_INPUT, NO_SERVER, OK, SOME_FAILED, main

FLAGS = ("--pairs", "all", "--ties", "keep", "--min-margin", "0.1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("resume"), module=JUDGE) as found:
        yield found


def run(served: Running, source: Path, output: Path, *flags: str) -> int:
    return main(["label-pairs", str(source), "-o", str(output), "-s", served.address, *flags])


def scored(served: Running) -> int:
    return sum(call["items"] for call in served.events("call") if call["method"] == "Score")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("held_at", [0, 20, 39])
def test_killed_and_resumed(tmp_path: Path, held_at: int, suffix: str) -> None:
    values = rows(40)
    values[11]["responses"][0] = "TOO_LONG"
    values[held_at]["id"] = "hold"
    source, output, whole = (tmp_path / name for name in ("in.jsonl", f"out{suffix}", f"whole{suffix}"))
    write(source, [*values, "nonsense"])
    with running(tmp_path / "server", module=JUDGE) as served:
        with start(source, output, served.address, *FLAGS, "--window", "4") as killed:
            until(lambda: recorded(output) == held_at, served.log)
            until(lambda: bool(served.log.stat().st_size))
            killed.kill()
        assert killed.returncode == -signal.SIGKILL
        assert not output.exists()
        assert recorded(output) == held_at
        served.send(signal.SIGUSR1)
        code, said = label(source, output, served.address, *FLAGS, "--window", "4", "--resume")
        assert code == SOME_FAILED, said
        assert label(source, whole, served.address, *FLAGS)[0] == SOME_FAILED
    assert output.read_bytes() == whole.read_bytes()
    assert failures_of(output).read_bytes() == failures_of(whole).read_bytes()
    assert journal_of(output).read_bytes() == journal_of(whole).read_bytes()
    left = {
        source,
        tmp_path / "server",
        *(of for one in (output, whole) for of in (one, journal_of(one), failures_of(one))),
    }
    assert set(tmp_path.iterdir()) == left


def test_killed_again_and_again_at_whatever_it_was_doing(served: Running, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", rows(600))
    output, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    kills = 0
    while kills < 4:
        before = recorded(output)
        with start(source, output, served.address, *FLAGS, "--window", "2", "--resume") as process:
            until(lambda seen=before, one=process: recorded(output) > seen or one.poll() is not None)  # type: ignore[misc]
            process.kill()
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert kills
    code, said = label(source, output, served.address, *FLAGS, "--resume")
    assert code == OK, said
    assert run(served, source, whole, *FLAGS) == OK
    assert output.read_bytes() == whole.read_bytes()
    assert journal_of(output).read_bytes() == journal_of(whole).read_bytes()


def test_wherever_the_journal_ends(served: Running, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", rows(6))
    output, journal = tmp_path / "out.jsonl", journal_of(tmp_path / "out.jsonl")
    assert run(served, source, output, *FLAGS) == OK
    pairs, records = output.read_bytes(), journal.read_bytes()
    for end in range(0, len(records) + 1, 7):
        journal.write_bytes(records[:end])
        output.unlink()
        # What a killed process may leave beside them.
        for name in ("out.jsonl.part", "out.jsonl.failed.jsonl.part", "out.jsonl.journal.jsonl.next"):
            (tmp_path / name).write_text("half of someth")
        assert run(served, source, output, *FLAGS, "--resume") == OK
        assert (output.read_bytes(), journal.read_bytes()) == (pairs, records)
        assert set(tmp_path.iterdir()) == {source, output, journal}


def test_what_was_judged_is_not_judged_again(served: Running, tmp_path: Path) -> None:
    source, output = write(tmp_path / "in.jsonl", rows(9)), tmp_path / "out.jsonl"
    assert run(served, source, output, "--version", "current") == OK
    pairs, before = output.read_bytes(), scored(served)
    assert run(served, source, output, "--resume") == OK
    assert (output.read_bytes(), scored(served)) == (pairs, before)
    assert {pair["version"] for pair in read(output)} == {VERSION}


def test_what_failed_for_a_while_only_is_judged_again(tmp_path: Path) -> None:
    values = rows(8)
    values[2]["responses"][0] = "DEADLINE_EXCEEDED"
    values[5]["responses"][1] = "TOO_LONG"
    source, output, whole = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "whole.jsonl"))
    write(source, values)
    with running(tmp_path / "ill", module=JUDGE) as served:
        code, said = label(source, output, served.address)
        assert code == SOME_FAILED
        assert "2 of 8 prompts failed" in said
        assert "--resume tries 1 of them again" in said
    with running(tmp_path / "well", module=JUDGE, environment={"HEALED": "1"}) as served:
        assert label(source, output, served.address, "--resume")[0] == SOME_FAILED
        assert scored(served) == 4 - 1  # the responses of one prompt, one of which is there twice
        assert [one["line"] for one in read(failures_of(output))] == [6]
        assert label(source, whole, served.address)[0] == OK
    assert read(output) == [pair for pair in read(whole) if pair["line"] != 6]


def test_the_server_goes_and_comes_back(tmp_path: Path) -> None:
    values = rows(30)
    values[12]["id"] = "hold"
    source, output, whole = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "whole.jsonl"))
    write(source, values)
    port = free_port()
    with running(tmp_path / "first", module=JUDGE, port=port) as served:
        with start(source, output, served.address, "--window", "4", "--call-timeout", "3") as process:
            until(lambda: recorded(output) == 12, served.log)
            served.process.kill()
            said = "".join(process.communicate(timeout=60))
        assert process.returncode == NO_SERVER
        assert f"what was judged is in {journal_of(output)}; --resume goes on from there" in said
        assert "Traceback" not in said
        assert "never retrieved" not in said
        assert recorded(output) == 12
        assert not output.exists()
    with running(tmp_path / "second", module=JUDGE, port=port) as served:
        served.send(signal.SIGUSR1)
        assert label(source, output, served.address, "--resume")[0] == OK
        assert label(source, whole, served.address)[0] == OK
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("by", ["score", "compare"])
def test_what_the_server_fails_at_is_one_failed_prompt(tmp_path: Path, by: str) -> None:
    values = rows(9)
    values[3]["id"] = "raise"
    values[6]["id"] = "hold"
    source, output = write(tmp_path / "in.jsonl", values), tmp_path / "out.jsonl"
    with running(tmp_path / "server", module=JUDGE) as served:
        code, said = label(source, output, served.address, "--by", by, "--call-timeout", "2")
        assert code == SOME_FAILED, said
        assert "--resume tries 2 of them again" in said
        told = [(one["line"], one["id"], one["status"]) for one in read(failures_of(output))]
        assert told == [(4, "raise", "ENGINE_ERROR"), (7, "hold", "DEADLINE_EXCEEDED")]
        served.send(signal.SIGUSR1)
        assert label(source, output, served.address, "--by", by, "--resume")[0] == SOME_FAILED
    assert [one["line"] for one in read(failures_of(output))] == [4]


def test_a_server_that_hangs_is_no_failed_prompt(tmp_path: Path) -> None:
    values = rows(4)
    values[2]["id"] = "hold"
    source, output = write(tmp_path / "in.jsonl", values), tmp_path / "out.jsonl"
    with running(tmp_path / "server", module=JUDGE) as served:
        with start(source, output, served.address, "--call-timeout", "3") as process:
            until(lambda: recorded(output) == 2, served.log)
            served.send(signal.SIGSTOP)
            said = "".join(process.communicate(timeout=60))
        served.send(signal.SIGCONT)
    assert process.returncode == NO_SERVER, said
    assert "nor did the server say within 10 s that it's there" in said
    assert recorded(output) == 2


def test_a_server_that_fails_at_everything_stops_the_run(served: Running, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{**one, "id": "raise"} for one in rows(50)])
    code, said = label(source, tmp_path / "out.jsonl", served.address)
    assert code == NO_SERVER
    assert "20 prompts in a row failed, the last one, line 20, with ENGINE_ERROR" in said
    assert "--resume goes on" in said
    assert recorded(tmp_path / "out.jsonl") == 20


def test_two_runs_of_one_output(tmp_path: Path) -> None:
    values = rows(8)
    values[3]["id"] = "hold"
    source, output = write(tmp_path / "in.jsonl", values), tmp_path / "out.jsonl"
    with running(tmp_path / "server", module=JUDGE) as served:
        with start(source, output, served.address) as first:
            until(lambda: recorded(output) == 3, served.log)
            for flag in ("--resume", "--overwrite"):
                code, said = label(source, output, served.address, flag)
                assert code == BAD_INPUT
                assert "another run is writing it" in said
            served.send(signal.SIGUSR1)
            first.communicate(timeout=60)
        assert first.returncode == OK
    assert len(read(output)) == 8


def test_the_time_is_over(served: Running, tmp_path: Path) -> None:
    values = rows(8)
    values[3]["id"] = "hold"
    source, output = write(tmp_path / "in.jsonl", values), tmp_path / "out.jsonl"
    code, said = label(source, output, served.address, "--timeout", "2")
    assert code == NO_SERVER
    assert "--timeout 2 is over" in said
    assert "--resume goes on" in said
    assert recorded(output) == 3


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--min-margin", "0.2"], "--min-margin was 0.1, and is 0.2"),
        (["--ties", "drop"], "--ties was keep, and is drop"),
        (["--by", "compare"], "--by was score, and is compare"),
        (["--version", "another"], "--version was fake-0123456789ab, and is another"),
    ],
)
def test_other_flags_are_another_run(
    served: Running, tmp_path: Path, flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = write(tmp_path / "in.jsonl", rows(3)), tmp_path / "out.jsonl"
    assert run(served, source, output, *FLAGS) == OK
    before = output.read_bytes()
    assert run(served, source, output, *FLAGS, *flags, "--resume") == BAD_INPUT
    assert told in capsys.readouterr().err
    assert output.read_bytes() == before


@pytest.mark.parametrize("change", [rows(4), [*rows(2), rows(4)[3]]])
def test_another_input_is_another_run(
    served: Running, tmp_path: Path, change: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = write(tmp_path / "in.jsonl", rows(3)), tmp_path / "out.jsonl"
    assert run(served, source, output) == OK
    assert run(served, write(source, change), output, "--resume") == BAD_INPUT
    assert "the input is another one, or was changed" in capsys.readouterr().err


def test_a_version_that_is_gone_is_told(served: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = write(tmp_path / "in.jsonl", rows(3)), tmp_path / "out.jsonl"
    assert run(served, source, output) == OK
    head, *entries = journal_of(output).read_text().splitlines(keepends=True)
    journal_of(output).write_text("".join([json.dumps({**json.loads(head), "version": "gone"}) + "\n", entries[0]]))
    left = journal_of(output).read_bytes()
    assert run(served, source, output, "--resume") == BAD_INPUT
    said = capsys.readouterr().err
    assert "no replica has version 'gone'" in said
    assert "make it resident, or begin anew with --overwrite" in said
    assert journal_of(output).read_bytes() == left
