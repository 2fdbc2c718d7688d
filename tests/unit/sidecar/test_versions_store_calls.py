"""The store's blocking calls, off the event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import cast

import pytest

from themis_judge.store import JudgeStore, StoreUnavailable, UnknownVersion
from themis_sidecar.versions.store_calls import StoreCalls

ROOT = Path(__file__).parents[3]


class Slow:
    """In a store's place: answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def desired(self) -> str:
        self.go_on.wait()
        return "answered"

    def list(self) -> str:
        return "at once"


def calls(store: Slow, call_s: float) -> StoreCalls:
    return StoreCalls(cast("JudgeStore", store), call_s)


async def test_answers_and_errors_come_through(tmp_path: Path) -> None:
    store = JudgeStore.open(str(tmp_path / "store"), tmp_path / "cache")
    found = StoreCalls(store)
    assert await found.run(JudgeStore.desired) is None
    with pytest.raises(UnknownVersion):
        await found.run(JudgeStore.manifest, "none-0123456789ab")


async def test_a_store_that_hangs_is_unavailable_and_its_late_answer_frees_its_place() -> None:
    store = Slow()
    found = calls(store, 0.05)
    for _ in range(4):
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await found.run(cast("type[JudgeStore]", Slow).desired)
    with pytest.raises(StoreUnavailable):  # all places are taken
        await found.run(cast("type[JudgeStore]", Slow).list)
    store.go_on.set()
    async with asyncio.timeout(30):
        while True:
            try:
                assert await found.run(cast("type[JudgeStore]", Slow).list) == "at once"  # type: ignore[comparison-overlap]
                break
            except StoreUnavailable:
                continue


def test_a_call_that_hangs_holds_up_no_end() -> None:
    script = (
        "import asyncio, threading\n"
        "from themis_sidecar.versions.store_calls import StoreCalls\n"
        "class Store: pass\n"
        "hang = threading.Event()\n"
        "async def main():\n"
        "    try:\n"
        "        await StoreCalls(Store(), 0.05).run(lambda store: hang.wait())\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "StoreUnavailable\n"
