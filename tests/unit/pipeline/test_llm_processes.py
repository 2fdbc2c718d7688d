"""Members of a fleet as real processes: killed at any step, or sharing limits and a budget."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.pipeline.llm_endpoint import answer, misbehaving
from tests.unit.pipeline.llm_parts import asked, near
from themis_judge.store.local import LocalFiles
from themis_pipeline.llm.ledger import FileLedger

ROOT = Path(__file__).parents[3]
COST = 20  # of each answer
MOST = near("http://near").most_micros(asked())


@contextmanager
def member(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.unit.pipeline.llm_process", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def go(*processes: subprocess.Popen[str]) -> None:
    """All at the same time."""
    assert [told(process) for process in processes] == ["ready"] * len(processes)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.mark.parametrize(("when", "paid_twice"), [("before", 1), ("after", 0)])
def test_a_member_that_is_killed_pays_again_only_for_what_no_journal_has(
    tmp_path: Path, when: str, paid_twice: int
) -> None:
    kills, count = (0, 3, 7), 8
    with misbehaving(answer("yes")) as server:
        for index in kills:
            with member("work", tmp_path, server.url, when, index, count) as process:
                assert process.wait(120) == -signal.SIGKILL
        with member("work", tmp_path, server.url, "never", -1, count) as process:
            last = told(process)
            assert process.wait(120) == 0
    assert server.calls == count + paid_twice * len(kills)
    assert last["texts"] == ["yes"] * count
    assert last["paid"] + last["from_journal"] == count
    assert last["paid"] == paid_twice
    # What a killed member had leased and not used counts as spent, and nothing that was spent is missing.
    (taken,) = FileLedger(LocalFiles(tmp_path)).taken("budget-all")
    assert server.calls * COST <= taken <= last["paid"] * COST + len(kills) * 500


def test_two_members_spend_one_budget(tmp_path: Path) -> None:
    total = 40 * COST + MOST
    with misbehaving(answer("yes")) as server:
        arguments = (tmp_path, server.url)
        with member("spend", *arguments, "one", total, 60) as one, member("spend", *arguments, "two", total, 60) as two:
            go(one, two)
            ends = [told(one), told(two)]
            assert [one.wait(120), two.wait(120)] == [0, 0]
    spent = server.calls * COST
    assert spent == sum(end["cost_micros"] for end in ends)
    assert total - MOST - 60 - COST <= spent <= total
    assert FileLedger(LocalFiles(tmp_path)).taken("budget-all") == (spent,)
    assert all(end["ends"][-1] == "BudgetSpent" for end in ends)


def test_two_members_keep_one_rate_limit(tmp_path: Path) -> None:
    with misbehaving(answer("yes")) as server:
        arguments = (tmp_path, server.url)
        with member("limited", *arguments, "one", 240) as one, member("limited", *arguments, "two", 240) as two:
            for passed in (40, 80):  # 240 a minute are 40 in a window of 10 s
                go(one, two)
                ends = [*told(one), *told(two)]
                assert ends.count("text") == 40
                assert ends.count("RateLimited") == 160
                assert server.calls == passed
            assert [one.wait(120), two.wait(120)] == [0, 0]
