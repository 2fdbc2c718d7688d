"""Several processes that share journal, limits and budget, against an endpoint that does everything wrong: it times
out, drips, answers garbage and half bodies, resets connections, asks for patience. Calls are counted where they
arrive."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.integration.llm_member import MAX_TOKENS
from tests.unit.pipeline.llm_endpoint import (
    Behaviour,
    Drip,
    Drop,
    Misbehaving,
    Reply,
    Reset,
    Silence,
    answer,
    misbehaving,
    refusal,
)
from themis_judge.store.local import LocalFiles
from themis_pipeline.llm.ledger import FileLedger

ROOT = Path(__file__).parents[2]
COST = 20  # of each answer
CONCURRENCY = 8
REQUESTS_A_SECOND = 20


def chaos(seed: int) -> Callable[[dict[str, Any]], Behaviour]:
    """Three calls in five get their answer."""
    drawn = random.Random(seed)
    kinds = ["answer", "patience", "oops", "garbage", "half", "drop", "reset", "silence", "drip"]
    weights = [60, 8, 6, 6, 6, 5, 5, 2, 2]

    def behave(body: dict[str, Any]) -> Behaviour:
        whole = answer(f"answer to {asked_for(body)}")
        others: dict[str, Behaviour] = {
            "answer": whole,
            "patience": refusal(429, retry_after="0.2"),
            "oops": Reply(b"oops", 500),
            "garbage": Reply(b"<html>busy</html>"),
            "half": Reply(whole.body[:40], promised=len(whole.body)),
            "drop": Drop(),
            "reset": Reset(),
            "silence": Silence(),
            "drip": Drip(),
        }
        return others[drawn.choices(kinds, weights)[0]]

    return behave


def asked_for(body: dict[str, Any]) -> str:
    name: str = body["messages"][0]["content"]
    return name


def settings(url: str, folder: Path, **budget: Any) -> str:
    near = {
        "name": "near",
        "base_url": url,
        "model": "small",
        "prompt_price": 1.0,
        "completion_price": 2.0,
        "timeout_s": 5.0,
        "concurrency": CONCURRENCY,
        "rate": {"requests_per_minute": 60 * REQUESTS_A_SECOND, "window_s": 1.0},
    }
    return json.dumps({"endpoints": [near], "store_url": str(folder), "budget": {"slice": 0.0002, **budget}})


@contextmanager
def member(told: str, stage: str, first: int, count: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.integration.llm_member", told, stage, str(first), str(count)]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """All that it told, as soon as it has ended."""
    told, _ = process.communicate(timeout=240)
    return [json.loads(line) for line in told.splitlines()]


def whole(server: Misbehaving) -> Counter[str]:
    """How many whole answers the endpoint gave to each input."""
    given = (one for one in server.served if isinstance(one.behaviour, Reply) and one.behaviour.status == 200)
    return Counter(asked_for(one.body) for one in given if one.behaviour == answer(f"answer to {asked_for(one.body)}"))


def test_no_answer_is_paid_twice_but_those_in_flight_at_a_kill(tmp_path: Path) -> None:
    count = 40
    names = [f"input-{number:03}" for number in range(3 * count)]
    with misbehaving(chaos(1)) as server, ExitStack() as running:
        told = settings(server.url, tmp_path, total=1000.0)
        first, second, killed = (running.enter_context(member(told, "label", part * count, count)) for part in range(3))
        until_s = time.monotonic() + 120
        while sum(whole(server)[name] for name in names[2 * count :]) < count // 3:
            assert time.monotonic() < until_s
            time.sleep(0.01)
        killed.kill()
        killed.wait(60)
        successor = running.enter_context(member(told, "label", 2 * count, count))
        fleet = [lines(process) for process in (first, second, successor)]
        asked = server.calls
        again = lines(running.enter_context(member(told, "label", 0, 3 * count)))

    # Everybody has an answer, and it is their own.
    for told_lines in (*fleet, again):
        assert all(line["text"] == f"answer to {line['input']}" for line in told_lines[:-1])
    assert sorted(line["input"] for told_lines in fleet for line in told_lines[:-1]) == names
    # What was paid is never asked for again, whoever comes.
    assert server.calls == asked
    assert (again[-1]["paid"], again[-1]["from_journal"]) == (0, 3 * count)
    # Whole answers at the endpoint, by input: one each, but for calls that were in flight at the kill.
    given = whole(server)
    assert {given[name] for name in names[: 2 * count]} == {1}
    assert all(1 <= given[name] <= 2 for name in names[2 * count :])
    assert sum(given[name] - 1 for name in names) <= CONCURRENCY
    assert sum(told_lines[-1]["paid"] for told_lines in fleet[:2]) == 2 * count
    # Calls in all: no more than the members counted.
    calls = Counter(asked_for(body) for body in server.bodies)
    counted = sum(sum(told_lines[-1]["attempts"].values()) for told_lines in fleet[:2])
    assert sum(calls[name] for name in names[: 2 * count]) <= counted
    # And no faster than the fleet may ask: three seconds touch four windows, and one more where a call was late.
    times = sorted(one.at_s for one in server.served)
    assert max(sum(begin <= at_s < begin + 3 for at_s in times) for begin in times) <= 5 * REQUESTS_A_SECOND
    # The ledger has at least what the endpoint may bill.
    (taken,) = FileLedger(LocalFiles(tmp_path)).taken("budget-all")
    assert taken >= COST * sum(given.values())


def test_the_fleet_stops_within_its_budgets(tmp_path: Path) -> None:
    count, total, for_label = 60, 2400, 900
    with misbehaving(chaos(2)) as server, ExitStack() as running:
        told = settings(server.url, tmp_path, total=total / 1e6, stages={"label": for_label / 1e6})
        stages = ["label", "label", "quiz"]
        processes = [
            running.enter_context(member(told, stage, part * count, count)) for part, stage in enumerate(stages)
        ]
        fleet = [lines(process) for process in processes]
        bills = Counter[str]()
        for one in server.served:  # whoever was sent so much as a byte may be billed an answer
            number = int(asked_for(one.body).removeprefix("input-"))
            refused = isinstance(one.behaviour, Reply) and one.behaviour.status != 200
            bills[stages[number // count]] += 0 if refused else COST

    ends = [line["text"] is None for told_lines in fleet for line in told_lines[:-1]]
    assert len(ends) == 3 * count
    assert 0 < sum(ends) < 3 * count
    ledger = FileLedger(LocalFiles(tmp_path))
    (everything,), (label,) = ledger.taken("budget-all"), ledger.taken("budget-all/label")
    # Nothing died, so the ledger has to the millionth what members counted, and that covers what may be billed.
    counted = [told_lines[-1]["cost"] + told_lines[-1]["unsure"] for told_lines in fleet]
    assert (everything, label) == (sum(counted), counted[0] + counted[1])
    assert bills.total() <= everything <= total
    assert bills["label"] <= label <= for_label
    # It was spent, but for what the next call might have cost, and what lay idle in each process.
    most = len("input-000") + 32 + 2 * MAX_TOKENS
    assert total - everything <= 3 * (most + 200)
