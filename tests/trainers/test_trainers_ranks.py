"""A run on two ranks, each a process, over gloo. One rank's rewards fail: both raise, and neither is left waiting in a
collective."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sidecar_running import ROOT, Running, free_port
from tests.trainers.rank import STEPS
from tests.trainers.vowels import liking

RANKS = 2
NONE = -1
DEADLINE_S = 150.0


def test_two_ranks_train_together(judge: Running, tmp_path: Path) -> None:
    told = _run(judge, tmp_path, fails=NONE)
    assert [(one["error"], one["steps"]) for one in told] == [("", STEPS)] * RANKS
    for one in told:
        assert one["values"] == [[pytest.approx(liking(text)) for text in call] for call in one["texts"]]
    assert told[0]["texts"] != told[1]["texts"]


def test_when_one_rank_fails_both_raise(judge: Running, tmp_path: Path) -> None:
    told = _run(judge, tmp_path, fails=1)
    assert told[1]["error"].startswith("RewardMissing: 1 of 16 completions have no reward")
    assert told[0]["error"].startswith("RankFailed: 1 of 2 ranks have no rewards: rank 1: RewardMissing")
    assert [(one["steps"], len(one["values"])) for one in told] == [(1, 1)] * RANKS


def _run(judge: Running, folder: Path, fails: int) -> list[Any]:
    """What each rank tells; no launcher stands around them, since it would end one rank where the other fails."""
    job = {**os.environ, "WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "tests.trainers.rank", judge.address, str(folder), str(fails)]
    with ExitStack() as stack:
        logs = [stack.enter_context((folder / f"rank-{rank}.log").open("w+")) for rank in range(RANKS)]
        ranks = []
        for number, log in enumerate(logs):
            own = {**job, "RANK": str(number), "LOCAL_RANK": str(number), "HF_HUB_OFFLINE": "1"}
            ranks.append(subprocess.Popen(command, cwd=ROOT, env=own, stdout=log, stderr=log))
            stack.callback(ranks[-1].wait)
            stack.callback(ranks[-1].kill)
        for rank, log in zip(ranks, logs, strict=True):
            assert rank.wait(DEADLINE_S) == 0, Path(log.name).read_text()
    return [json.loads((folder / f"rank-{number}.json").read_text()) for number in range(RANKS)]
