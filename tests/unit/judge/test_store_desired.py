"""The log of desired states: a number is won once, and a state makes sense by itself and beside the store."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.judge.store_samples import opened, published, state
from themis_judge.store import (
    Conflict,
    CorruptEntry,
    DesiredState,
    JudgeStore,
    Refused,
    Shadow,
    StoreError,
    UnknownVersion,
)

PROPOSALS, RACERS = 40, 4


def race(url: str, tmp_path: Path, version: str, count: int) -> dict[str, list[int]]:
    """The numbers that each process won."""
    names = [f"racer-{index}" for index in range(RACERS)]
    command = [sys.executable, "-m", "tests.unit.judge.store_process", "race", url, str(tmp_path / "race")]
    racers = [
        subprocess.Popen(
            [*command, name, version, str(count)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in names
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        return {name: json.loads(answer) for name, (answer, _) in zip(names, _all_at_once(racers), strict=True)}
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()


def _all_at_once(racers: list[subprocess.Popen[str]]) -> list[tuple[str, str]]:
    with ThreadPoolExecutor(len(racers)) as pool:
        return list(pool.map(lambda racer: racer.communicate("go\n", timeout=240), racers))


def test_of_many_processes_exactly_one_wins_each_number(tmp_path: Path) -> None:
    store = opened(tmp_path)
    version = published(store, tmp_path).id
    won = race(str(tmp_path / "store"), tmp_path, version, PROPOSALS)
    assert sorted(number for numbers in won.values() for number in numbers) == list(range(1, PROPOSALS + 1))
    final = store.desired()
    assert final is not None
    assert final.number == PROPOSALS
    assert PROPOSALS in won[final.by]


def test_of_many_threads_exactly_one_wins(tmp_path: Path) -> None:
    store = opened(tmp_path)
    version = published(store, tmp_path).id

    def propose(_: int) -> bool:
        try:
            store.propose(state(1, version))  # all equal: that it reads like one's own doesn't make it one's own
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(propose, range(8))) == 1


def test_a_state_comes_back_as_it_was_proposed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    first, second, third = (published(store, tmp_path, seed=seed).id for seed in range(3))
    assert store.desired() is None
    asked = state(1, first, second, shadow=third, previous=None)
    store.propose(asked)
    assert store.desired() == opened(tmp_path).desired() == asked
    assert asked.versions == {first, second, third}
    after = state(2, second, previous=first)
    opened(tmp_path).propose(after)
    assert store.desired() == after


@pytest.mark.parametrize("number", [0, 1, 3])
def test_only_the_next_number_can_be_proposed(number: int, tmp_path: Path) -> None:
    store = opened(tmp_path)
    version = published(store, tmp_path).id
    store.propose(state(1, version))
    with pytest.raises(Conflict, match="number 1 is in force"):
        store.propose(state(number, version))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"resident": ()}, "is not resident"),
        ({"resident": ("a", "a"), "current": "a"}, "named twice"),
        ({"shadow": Shadow("a", 0.0)}, "shadow.share"),
        ({"shadow": Shadow("a", 1.5)}, "shadow.share"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(change: dict[str, object], problem: str, tmp_path: Path) -> None:
    fields: dict[str, object] = {"current": "a", "resident": ("a",), "shadow": None, **change}
    with pytest.raises(Refused, match=problem):
        opened(tmp_path).propose(DesiredState(1, previous=None, by="", at="", why="", **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["judge-0123456789ab", "../../etc/passwd", ""])
def test_a_version_that_is_not_there_can_not_be_desired(version: str, tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(UnknownVersion):
        store.propose(state(1, version))
    assert store.desired() is None


def test_a_broken_state_is_named_and_can_be_superseded(tmp_path: Path) -> None:
    store = opened(tmp_path)
    version = published(store, tmp_path).id
    store.propose(state(1, version))
    file = tmp_path / "store" / "desired" / "00000001.json"
    file.write_bytes(file.read_bytes()[:-9])
    fresh = opened(tmp_path)
    with pytest.raises(CorruptEntry, match=r"desired/00000001\.json"):
        fresh.desired()
    fresh.propose(state(2, version))
    assert fresh.desired() == state(2, version)


def test_a_new_field_of_newer_software_is_left_out(tmp_path: Path) -> None:
    store = opened(tmp_path)
    version = published(store, tmp_path).id
    store.propose(state(1, version))
    file = tmp_path / "store" / "desired" / "00000001.json"
    content = json.loads(file.read_bytes())
    content["state"]["later"] = 1
    file.write_text(json.dumps(content))
    assert opened(tmp_path).desired() == state(1, version)


def test_a_directory_that_can_not_be_made_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match="File exists"):
        JudgeStore.open(str(tmp_path / "store"), tmp_path / "cache")
