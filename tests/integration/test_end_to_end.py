"""The whole of it as users run it: the real server process with the real small model, the real client, the command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from themis_client import (
    AsyncClient,
    Client,
    Comparison,
    Conversation,
    CriteriaMode,
    Criterion,
    CritiqueMode,
    DifficultyItem,
    Failure,
    Item,
    Rubric,
    Score,
    ScoreOptions,
    Unavailable,
)
from themis_client.cli import NO_SERVER, SOME_FAILED
from themis_client.retry import RetryPolicy

START_S = 120.0
ONCE = RetryPolicy(attempts=1)


@dataclass(frozen=True)
class Sidecar:
    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def sidecar(model: Path, folder: Path, *flags: str) -> Iterator[Sidecar]:
    ready, log = folder / "ready", folder / "log"
    command = [sys.executable, "-m", "themis_sidecar", "--engine.model", str(model), "--listen.port", "0"]
    command += ["--judge.label_mass_threshold", "0", "--limits.drain_notice_s", "0", "--ready-file", str(ready)]
    with log.open("wb") as stream:
        process = subprocess.Popen([*command, *flags], stderr=stream)
    try:
        yield Sidecar(_address(process, ready, log), process, log)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], ready: Path, log: Path) -> str:
    give_up_at = time.monotonic() + START_S
    while not ready.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up_at, log.read_text()
        time.sleep(0.05)
    return ready.read_text().strip()


@pytest.fixture(scope="module")
def served(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecar(small_model, tmp_path_factory.mktemp("sidecar")) as running:
        yield running


def items(count: int) -> list[Item]:
    return [Item(f"What is {n} + {n}?", f"It is {2 * n}.", scenario="math", key=str(n)) for n in range(count)]


def test_scores_come_back_with_all_that_the_contract_promises(served: Sidecar) -> None:
    with Client(served.address) as client:
        result = client.score([Item("What is 2 + 2?", "4", reference="Four.", key="k", group="g")])[0]
        described = client.describe()
    assert isinstance(result, Score)
    assert 1 <= result.expected_rating <= 5
    assert 0 <= float(result) <= 1
    assert sum(one.probability for one in result.probabilities) == pytest.approx(1)
    assert result.label_mass is not None
    assert 0 < result.label_mass <= 1
    assert (result.key, result.group) == ("k", "g")
    assert result.scenario in {one.id for one in described.scenarios}
    assert result.scenario_probability is not None
    assert result.version == described.current
    assert result.template_digest == described.versions[0].template_digest
    assert result.tokens.prompt > 100
    assert result.timings.computed_s > 0
    assert result.timings.tokenised_s > 0


def test_a_group_sent_one_by_one_equals_the_same_group_as_a_batch(served: Sidecar) -> None:
    group = [Item("Name a prime number.", text, scenario="math") for text in ("7", "8", "It is 7, surely.", "9 is")]
    with Client(served.address) as client:
        batch = client.score(group)
        alone = [client.score([item])[0] for item in group]
    assert [one.probabilities for one in batch if isinstance(one, Score)] == [
        one.probabilities for one in alone if isinstance(one, Score)
    ]
    assert all(one.tokens.cached == one.tokens.prompt for one in alone if isinstance(one, Score))


async def test_many_callers_of_one_item_each(served: Sidecar) -> None:
    async with AsyncClient(served.address) as client:
        results = await asyncio.gather(*(client.score([item]) for item in items(32)))
    assert all(isinstance(result[0], Score) for result in results)
    assert [result[0].key for result in results] == [str(n) for n in range(32)]


def test_bad_items_cost_nobody_else_anything(served: Sidecar) -> None:
    good = items(2)
    bad = Item("", "4", scenario="no such scenario", key="bad")
    with Client(served.address) as client:
        results = client.score([good[0], bad, Item("What?", "x " * 20_000, scenario="math", key="long"), good[1]])
        again = client.score(good)
    assert [type(one) for one in results] == [Score, Failure, Failure, Score]
    assert isinstance(results[1], Failure)
    assert (results[1].status.name, results[1].field) == ("INVALID", "items[1].scenario")
    assert isinstance(results[2], Failure)
    assert results[2].status.name == "TOO_LONG"
    assert [one.probabilities for one in (results[0], results[3]) if isinstance(one, Score)] == [
        one.probabilities for one in again if isinstance(one, Score)
    ]


def test_every_mode_and_method(served: Sidecar) -> None:
    item = Item("What is 2 + 2?", "4", scenario="math")
    rubric = Rubric([Criterion("Is it short?", id="short", weight=3.0), Criterion("Is it right?", id="right")], 1, 10)
    with Client(served.address) as client:
        critique = client.score([item], options=ScoreOptions(mode=CritiqueMode(max_points=1, max_point_chars=40)))[0]
        criteria = client.score(
            [Item("What is 2 + 2?", "4", scenario="math", rubric=rubric)], options=ScoreOptions(mode=CriteriaMode())
        )[0]
        compared = client.compare([Comparison("What is 2 + 2?", "4", "5", scenario="math")])[0]
        classified = client.classify([Conversation("What is 2 + 2?")])[0]
        difficulty = client.difficulty([DifficultyItem(item, "Overall rating (1 to 5): [[4]]")])[0]
    assert isinstance(critique, Score)
    assert critique.critique is not None
    assert critique.critique.strengths
    assert critique.critique.shortcomings
    assert isinstance(criteria, Score)
    assert [(one.id, one.weight) for one in criteria.criteria] == [("short", 0.75), ("right", 0.25)]
    assert len(criteria.probabilities) == 10
    assert not isinstance(compared, Failure)
    assert not isinstance(classified, Failure)
    assert not isinstance(difficulty, Failure)
    assert difficulty.conditional < 0


def test_the_command_scores_a_file(served: Sidecar, tmp_path: Path) -> None:
    lines = [{"messages": [{"role": "user", "content": "Hi"}], "response": "Hello!", "key": "a", "scenario": "open_qa"}]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"messages": []}]))
    run = subprocess.run(
        [sys.executable, "-m", "themis_client.cli", "score", str(path), "-s", served.address, "--format", "jsonl"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == SOME_FAILED, run.stderr
    first = json.loads(run.stdout.splitlines()[0])
    assert first["status"] == "ITEM_STATUS_OK"
    assert "verdict" not in json.loads(run.stdout.splitlines()[1])


def test_the_log_tells_calls_and_no_text(served: Sidecar) -> None:
    canary = "xylophone-orchid"
    with Client(served.address) as client:
        client.score([Item(canary, canary, scenario="open_qa")])
    log = served.log.read_text()
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert "serving" in events
    assert "call" in events
    assert canary not in log


def test_sigterm_under_load_loses_nothing_that_was_taken_on(small_model: Path, tmp_path: Path) -> None:
    async def load(running: Sidecar) -> list[BaseException | Score | Failure]:
        async with AsyncClient(running.address, retry=ONCE) as client:
            await client.describe()
            calls = [asyncio.create_task(client.score([item])) for item in items(12)]
            done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) < len(calls), "the load was over before the signal"
            running.process.send_signal(signal.SIGTERM)
            ended = await asyncio.gather(*calls, return_exceptions=True)
            return [one if isinstance(one, BaseException) else one[0] for one in ended]

    with sidecar(small_model, tmp_path, "--engine.transformers.max_batch_tokens", "64") as running:
        results = asyncio.run(load(running))
        assert running.process.wait(60) == 0
        events = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert all(isinstance(result, Score | Unavailable) for result in results)
    scored = [event for event in events if event["event"] == "call" and event["method"] == "Score" and event["ok"]]
    assert len(scored) == sum(isinstance(result, Score) for result in results)
    assert len(scored) > 1, "nothing was in flight"
    assert events[-1]["calls_cut_off"] is False


def test_a_killed_server_is_an_error_and_never_a_number(small_model: Path, tmp_path: Path) -> None:
    with sidecar(small_model, tmp_path) as running:
        with Client(running.address, retry=ONCE, timeout_s=20) as client:
            client.score(items(1))
            os.kill(running.process.pid, signal.SIGKILL)
            running.process.wait(10)
            with pytest.raises(Unavailable):
                client.score(items(2))
        run = subprocess.run(
            [sys.executable, "-m", "themis_client.cli", "describe", "-s", running.address, "--timeout", "5"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert run.returncode == NO_SERVER


def test_the_demo(tmp_path: Path, small_model: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "themis_sidecar.demo"], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "machinery, not judging skill" in run.stdout
    results = json.loads((tmp_path / "demo-out" / "scores.json").read_text())
    assert len(results) == 15
    assert all(result["status"] == "ITEM_STATUS_OK" and "verdict" in result for result in results)
    assert results[-1]["verdict"]["critique"]["strengths"]
