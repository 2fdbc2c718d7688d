"""A wall clock that jumps, under everything in the server's process: deadlines, queues and waits don't notice."""

from __future__ import annotations

import datetime
import mmap
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.sidecar_running import ROOT, Running, running
from themis_client import Client, Item, Overloaded, RetryPolicy, Scores
from themis_client.failure import Failure, Status

DAY_S = 86_400
WAIT_S = 60.0


class WallClock:
    """Of the processes that are started with `environment`."""

    def __init__(self, folder: Path, library: Path) -> None:
        path = folder / "jump"
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._seconds = mmap.mmap(file.fileno(), 8)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_JUMP": str(path)}

    def jump(self, seconds: int) -> None:
        """To so many seconds after the true time, or before it."""
        self._seconds[:] = seconds.to_bytes(8, "little", signed=True)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, which a clock that jumps needs")
    built = tmp_path_factory.mktemp("clock") / "clock_jump.so"
    source = ROOT / "tests" / "data" / "clock_jump.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, source], check=True, timeout=60)
    return built


@contextmanager
def serving(folder: Path, library: Path) -> Iterator[tuple[Running, WallClock]]:
    clock = WallClock(folder, library)
    with running(folder / "server", "--limits.max_queue_tokens", "100", environment=clock.environment) as served:
        yield served, clock


def item(key: str) -> Item:
    return Item("a question", "an answer", key=key)


def days_of(served: Running) -> list[datetime.date]:
    """Of the calls in a server's log."""
    return [datetime.datetime.fromisoformat(line["timestamp"]).date() for line in served.events("call")]


@pytest.mark.parametrize("days", [1, -1, 400])
def test_calls_in_flight_neither_end_nor_hang(tmp_path: Path, library: Path, days: int) -> None:
    with (
        serving(tmp_path, library) as (served, clock),
        Client(served.address, retry=RetryPolicy(attempts=1)) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        client.score([item("first")])
        held: list[Future[Scores]] = [
            threads.submit(client.score, [item("hold")], timeout_s=WAIT_S),
            threads.submit(client.score, [item("hold"), item("fast")], timeout_s=WAIT_S),
        ]
        streamed = threads.submit(lambda: dict(client.stream([item("hold"), item("fast")], timeout_s=WAIT_S)))
        short = threads.submit(client.score, [item("hold"), item("fast")], timeout_s=3.0)
        assert client.score([item("after hold")], timeout_s=WAIT_S)[0].ok
        clock.jump(days * DAY_S)
        # Calls of after the jump have the time they were given, no more and no less.
        assert client.score([item("fast")], timeout_s=WAIT_S)[0].ok
        late, fast = client.score([item("hold"), item("fast")], timeout_s=1.0)
        assert isinstance(late, Failure)
        assert (late.status, fast.ok) == (Status.DEADLINE_EXCEEDED, True)
        late, fast = short.result(WAIT_S)
        assert isinstance(late, Failure)
        assert (late.status, fast.ok) == (Status.DEADLINE_EXCEEDED, True)
        assert not streamed.done()
        assert not any(call.done() for call in held)
        served.send(signal.SIGUSR1)  # lets go of what is held
        assert all(result.ok for call in held for result in call.result(WAIT_S))
        assert all(result.ok for result in streamed.result(WAIT_S).values())
        assert served.stop() == 0
    seen = days_of(served)
    assert abs((seen[-1] - seen[0]).days - days) <= 1  # it did jump, as the server saw it
    assert seen[-1] != seen[0]


def test_a_full_queue_stays_full_and_bounded_while_the_clock_jumps(tmp_path: Path, library: Path) -> None:
    with (
        serving(tmp_path, library) as (served, clock),
        Client(served.address, retry=RetryPolicy(attempts=1)) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        keys = [*(f"hold {number}" for number in range(10)), *(f"after {number}" for number in range(20))]
        streamed = threads.submit(lambda: list(client.stream([item(key) for key in keys], timeout_s=WAIT_S)))
        while "100 tokens are queued" not in refusal(client):
            assert not streamed.done()
        for days in (1, -3, 2, 0, -1):
            clock.jump(days * DAY_S)
            assert "100 tokens are queued" in refusal(client)
        served.send(signal.SIGUSR1)
        results = streamed.result(WAIT_S)
        assert sorted(index for index, _ in results) == list(range(30))
        assert all(result.ok for _, result in results)
        assert served.stop() == 0


def refusal(client: Client) -> str:
    """What a call of one more item is told; nothing if it is let in."""
    try:
        client.score([item("one more")], timeout_s=WAIT_S)
    except Overloaded as error:
        return str(error)
    return ""
