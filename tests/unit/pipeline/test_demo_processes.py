"""The demo's processes: what is told of one that doesn't do what it was started for."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from themis_pipeline.demo.processes import Failed, address_in, command, running


def test_a_process_that_ends_before_it_is_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    missing = tmp_path / "nothing.json"
    with (
        pytest.raises(Failed, match=r"the reader ended with exit code 2; (?s:.*)nothing\.json"),
        running("the reader", tmp_path / "log", "json.tool", missing) as process,
    ):
        address_in(tmp_path / "ready", process)


def test_an_end_that_is_no_good_one_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(Failed, match="the server ended with exit code -15"),
        running("the server", tmp_path / "log", "http.server", "0"),
    ):
        pass


def test_no_process_outlives_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyError), running("the server", tmp_path / "log", "http.server", "0") as process:
        raise KeyError
    assert not psutil.pid_exists(process.process.pid)


def test_a_command_is_fine_with_the_codes_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("1")
    assert command("json.tool", tmp_path / "one.json") == "1"
    with pytest.raises(Failed, match="exit code 2"):
        command("json.tool", "--no-such-flag")
    assert command("json.tool", "--no-such-flag", fine=(2,)) == ""
