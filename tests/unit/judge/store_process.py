"""What store tests run as processes of their own: racing proposals, publishers that die, a full disk."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.judge.store_samples import model, state
from themis_judge.store import Conflict, Draft, JudgeStore, StoreUnavailable

_DEADLINE_S = 120.0
_STEPS = ("open", "os.link", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "shutil.copyfile")


def race(url: str, folder: str, name: str, version: str, count: str) -> None:
    """Proposes every number from 1 on, and prints those that it won."""
    store = JudgeStore.open(url, Path(folder))
    won = []
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    for number in range(1, int(count) + 1):
        _await_number(store, number - 1)
        try:
            store.propose(state(number, version, by=name))
            won.append(number)
        except Conflict:
            continue
    store.close()
    print(json.dumps(won), flush=True)  # noqa: T201


def _await_number(store: JudgeStore, number: int) -> None:
    until = time.monotonic() + _DEADLINE_S
    while time.monotonic() < until:
        found = store.desired()
        if (found.number if found else 0) >= number:
            return
    raise TimeoutError(f"nobody proposed {number}")


def die(url: str, folder: str, weights: str) -> None:
    """Publishes again and again, each time by a process that is killed one step later, until one gets through. Prints
    how each of them ended and what was listed then."""
    ends = []
    for steps in itertools.count(1):
        child = os.fork()
        if child == 0:
            _publish_and_die(url, folder, weights, steps)
        _, status = os.waitpid(child, 0)
        listed = [entry.id for entry in JudgeStore.open(url, Path(folder)).list()]
        ends.append({"signal": os.WTERMSIG(status), "listed": listed})
        if os.WIFEXITED(status):
            break
    print(json.dumps(ends), flush=True)  # noqa: T201


def _publish_and_die(url: str, folder: str, weights: str, steps: int) -> None:
    left = steps
    store = JudgeStore.open(url, Path(folder))

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in _STEPS and any(url in str(argument) for argument in arguments):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    store.publish(Draft("judge", Path(weights), "base"))
    os._exit(0)


def fill(url: str, limit: str) -> None:
    """Publishes more than the disk takes, then what it takes, and prints what came of it."""
    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    with tempfile.TemporaryDirectory() as work:
        store = JudgeStore.open(url, Path(work))
        small = model(Path(work, "small"))
        large = Path(url).parent / "large"  # made by the test: it is more than this process may write
        kept = store.publish(Draft("small", small, "base"))
        store.propose(state(1, kept.id))
        try:
            store.publish(Draft("large", large, "base"))
            problem = ""
        except StoreUnavailable as error:
            problem = str(error)
        aside = [str(path) for path in Path(url).rglob(".aside-*")]
        store.collect(0)
        after = store.publish(Draft("after", small, "base"))
        listed = [entry.id for entry in store.list()]
        store.fetch(after.id)
        print(json.dumps({"problem": problem, "aside": aside, "right": listed == sorted([kept.id, after.id])}))  # noqa: T201


if __name__ == "__main__":
    scenes: dict[str, Callable[..., None]] = {"race": race, "die": die, "fill": fill}
    scenes[sys.argv[1]](*sys.argv[2:])
