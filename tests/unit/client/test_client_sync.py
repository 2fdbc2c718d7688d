"""The blocking client: threads, other people's event loops, pickling, forks."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.client.judge_process import ROOT, judge_process
from themis_client import (
    Client,
    ClientClosed,
    Comparison,
    Conversation,
    DeadlineExceeded,
    DifficultyItem,
    Item,
    RetryPolicy,
    Score,
    ScoreOptions,
    Unavailable,
    UnknownVersion,
    session,
)

ITEM = Item("q", "0.5")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with judge_process() as found:
        yield found


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as found:
        yield found


def test_all_methods(client: Client) -> None:
    assert client.version is None
    assert [float(score) for score in client.score([ITEM, ITEM]).raise_if_failed()] == [0.5, 0.5]
    assert client.compare([Comparison("q", "0.5", "0.25")]).ok[0].preference == "A"
    assert client.classify([Conversation("q")]).ok[0].scenario == "math"
    assert client.difficulty([DifficultyItem(Conversation("q"), "a")]).ok[0].conditional == -1.0
    assert client.describe().current == "v1"
    assert client.refresh_version() == client.version == "v1"


def test_work_that_outlasts_its_time_is_told_so(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "GRACE_S", 0.05)
    with (
        Client(address, timeout_s=0.05) as hasty,
        pytest.raises(DeadlineExceeded, match=r"within 0\.1 s: .*longer than the timeout_s"),
    ):
        hasty.manage(lambda _: asyncio.sleep(3600))


def test_a_stream_takes_items_in_the_calling_thread(client: Client) -> None:
    threads = set()

    def items() -> Iterator[Item]:
        for i in range(600):
            threads.add(threading.current_thread())
            yield Item("q", str(i / 1000))

    found = dict(client.stream(items()))
    scores = {index: float(score) for index, score in found.items() if isinstance(score, Score)}
    assert scores == {i: i / 1000 for i in range(600)}
    assert threads == {threading.current_thread()}


def test_a_stream_is_left_early(client: Client) -> None:
    results = client.stream(ITEM for _ in range(10_000))
    assert next(results)[1].ok
    results.close()
    assert client.score([ITEM]).ok


def test_a_streams_errors_are_raised(client: Client) -> None:
    with pytest.raises(UnknownVersion):
        list(client.stream((ITEM for _ in range(1000)), options=ScoreOptions(version="v9")))


def test_a_source_that_fails(client: Client) -> None:
    def items() -> Iterator[Item]:
        yield ITEM
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(client.stream(items()))


def test_threads_share_a_client(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: float(client.score([Item("q", str(i / 100))]).ok[0]), range(50)))
    assert found == [i / 100 for i in range(50)]


def test_any_event_loop_may_wait(client: Client) -> None:
    async def both() -> None:
        scores, comparisons = await asyncio.gather(
            client.score_async([ITEM]), client.compare_async([Comparison("q", "0.5", "0.25")])
        )
        assert scores.ok
        assert comparisons.ok

    for _ in range(3):
        asyncio.run(both())


def test_a_copy_keeps_the_pin(client: Client) -> None:
    client.score([ITEM])
    with pickle.loads(pickle.dumps(client)) as copy:
        assert copy.version == "v1"
        assert copy.score([ITEM]).ok


def test_a_closed_client(address: str) -> None:
    client = Client(address)
    client.close()
    with pytest.raises(ClientClosed):
        client.score([ITEM])
    client.close()


def test_nobody_there() -> None:
    with Client("127.0.0.1:1", retry=RetryPolicy(attempts=1)) as client, pytest.raises(Unavailable):
        client.score([ITEM])


FORKED = """
import os, sys, threading
from themis_client import Client, ClientClosed, Item, ScoreOptions

client = Client(sys.argv[1])

def score(version=None):
    return float(client.score([Item("q", "0.5")], options=ScoreOptions(version=version), timeout_s=20).ok[0])

def forked(work):
    child = os.fork()
    if not child:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def child():
    score()
    return 0 if client.version == "v1" and forked(lambda: score() != 0.5) == 0 else 1

assert forked(lambda: score() != 0.5) == 0, "before the first call"
score()
for _ in range(3):
    assert forked(child) == 0, "after a call, and again in the child"
    score()

def child_of_a_busy_parent():
    try:
        score()
    except ClientClosed as error:
        return 7 if "forked while" in str(error) else 1

asked, go_on = threading.Event(), threading.Event()
def items():
    yield Item("q", "0.5")
    asked.set()
    go_on.wait()

streaming = threading.Thread(target=lambda: list(client.stream(items())), daemon=True)
streaming.start()
asked.wait()
assert forked(child_of_a_busy_parent) == 7, "while a call is under way"
go_on.set()
streaming.join()
score()
assert forked(child) == 0, "when it is over"
print("fine")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_both_sides_of_a_fork_work(address: str) -> None:
    command = [sys.executable, "-c", FORKED, address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    # gRPC's own handlers would say on stderr that they skip a busy fork, and now and then bring the child down.
    assert (done.stdout, done.stderr) == ("fine\n", "")


@pytest.mark.parametrize(("given", "used"), [({}, "0"), ({"GRPC_ENABLE_FORK_SUPPORT": "true"}, "true")])
def test_who_sets_grpcs_handling_of_forks_is_let_be(given: dict[str, str], used: str) -> None:
    script = "import os, themis_client; print(os.environ['GRPC_ENABLE_FORK_SUPPORT'])"
    unset = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=unset | given, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{used}\n"


def test_a_process_that_forgets_to_close_ends_quietly(address: str) -> None:
    script = "import sys; from themis_client import *; print(Client(sys.argv[1]).score([Item('q', '0.5')]).ok[0].score)"
    command = [sys.executable, "-X", "dev", "-c", script, address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.5\n", "")
