"""What was paid is not paid again, whoever repeats it."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.pipeline.llm_endpoint import Reply, Silence, answer, misbehaving
from tests.unit.pipeline.llm_parts import asked, near, put_together
from themis_judge.store.local import LocalFiles
from themis_pipeline.llm.calls import CallKey
from themis_pipeline.llm.errors import CorruptRecord, SharedStoreUnavailable
from themis_pipeline.llm.journal import Entry, FileJournal

ENTRY = Entry("input-1", "label", 0, "digest", "yes \ud7ff\n", "stop", "near", "served", 10, 5, 20)


class Losing:
    """A journal that can be asked but not written to, as on a disk that is full."""

    def __init__(self, journal: FileJournal) -> None:
        self._journal = journal
        self.full = True

    def find(self, key: CallKey, digest: str) -> Entry | None:
        return self._journal.find(key, digest)

    def record(self, entry: Entry) -> Entry:
        if self.full:
            raise SharedStoreUnavailable("the disk is full", 5.0)
        return self._journal.record(entry)


class Blocked(FileJournal):
    """Writes when it is let."""

    def __init__(self, files: LocalFiles) -> None:
        super().__init__(files)
        self.asked, self.let = threading.Event(), threading.Event()

    def record(self, entry: Entry) -> Entry:
        self.asked.set()
        assert self.let.wait(60)
        return super().record(entry)


async def test_a_repeat_is_told_from_the_journal_by_any_member(tmp_path: Path) -> None:
    with misbehaving(answer("first"), answer("second")) as server:
        async with put_together(tmp_path, near(server.url)) as parts:
            paid = await parts.llm.complete(asked(), parts.context())
        async with put_together(tmp_path, near(server.url)) as other:
            told = await other.llm.complete(asked(), other.context())
    assert told == dataclasses.replace(paid, from_journal=True)
    assert server.calls == 1
    assert (other.totals.from_journal, other.totals.paid, other.totals.cost_micros) == (1, 0, 0)


async def test_another_input_stage_index_or_request_is_another_call(tmp_path: Path) -> None:
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url)) as parts:
            await parts.llm.complete(asked(), parts.context())
            await parts.llm.complete(asked(), parts.context(input_id="input-2"))
            await parts.llm.complete(asked(), parts.context(index=1))
            await parts.llm.complete(asked("Say no."), parts.context())
            await parts.llm.complete(asked(temperature=0.1), parts.context())
            await parts.llm.complete(asked(extra={"top_p": 0.5}), parts.context())
            parts.stage = "quiz"
            await parts.llm.complete(asked(), parts.context())
            assert server.calls == 7
            assert (await parts.llm.complete(asked(), parts.context())).from_journal
    assert server.calls == 7


async def test_an_answer_that_can_not_be_journaled_is_used_and_counted(tmp_path: Path) -> None:
    losing = Losing(FileJournal(LocalFiles(tmp_path)))
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url), journal=losing) as parts:
            assert (await parts.llm.complete(asked(), parts.context())).text == "yes"
    assert (server.calls, parts.totals.unjournaled) == (1, 1)


async def test_nothing_more_is_paid_until_what_was_paid_is_written(tmp_path: Path) -> None:
    losing = Losing(FileJournal(LocalFiles(tmp_path)))
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url), journal=losing) as parts:
            await parts.llm.complete(asked(), parts.context())
            assert (await parts.llm.complete(asked(), parts.context())).from_journal
            with pytest.raises(SharedStoreUnavailable):
                await parts.llm.complete(asked(), parts.context(index=1))
            assert server.calls == 1
            losing.full = False
            await parts.llm.complete(asked(), parts.context(index=1))
        async with put_together(tmp_path, near(server.url)) as other:
            for index in range(2):
                assert (await other.llm.complete(asked(), other.context(index=index))).from_journal
    assert server.calls == 2


async def test_what_is_being_written_is_not_paid_again(tmp_path: Path) -> None:
    blocked = Blocked(LocalFiles(tmp_path))
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url), journal=blocked) as parts:
            call = asyncio.ensure_future(parts.llm.complete(asked(), parts.context()))
            await asyncio.to_thread(blocked.asked.wait, 60)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            again = asyncio.ensure_future(parts.llm.complete(asked(), parts.context()))
            await asyncio.wait([again], timeout=20)
            threading.Timer(0.2, blocked.let.set).start()
            assert (await again).from_journal
        # Who closes waits for what is being written.
        async with put_together(tmp_path, near(server.url)) as other:
            assert (await other.llm.complete(asked(), other.context())).from_journal
    assert server.calls == 1


async def test_nothing_is_paid_while_the_journal_can_not_be_asked(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with misbehaving(answer("yes")) as server:
        async with put_together(folder, near(server.url)) as parts:
            folder.rmdir()
            folder.symlink_to(folder)  # a path that can't be walked
            with pytest.raises(SharedStoreUnavailable):
                await parts.llm.complete(asked(), parts.context())
    assert server.calls == 0


async def test_an_answer_that_is_paid_is_journaled_though_nobody_waits_for_it(tmp_path: Path) -> None:
    release = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)

        def busy(_: object) -> Reply:  # so that the write has to wait
            pool.submit(release.wait)
            return answer("yes")

        with misbehaving(busy) as server:
            async with put_together(tmp_path, near(server.url)) as parts:
                call = asyncio.ensure_future(parts.llm.complete(asked(), parts.context()))
                until_s = time.monotonic() + 60
                while parts.totals.paid == 0:
                    assert time.monotonic() < until_s
                    await asyncio.sleep(0.005)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                release.set()
                assert (await parts.llm.complete(asked(), parts.context())).from_journal
    assert server.calls == 1


async def test_of_equal_calls_in_flight_one_pays(tmp_path: Path) -> None:
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url)) as parts:
            calls = [parts.llm.complete(asked(), parts.context(index=index)) for index in (0, 0, 0, 1)]
            told = await asyncio.gather(*calls)
    assert server.calls == 2
    assert [one.from_journal for one in told].count(True) == 2


async def test_an_equal_call_goes_on_where_the_one_before_it_is_cancelled(tmp_path: Path) -> None:
    asked_once = threading.Event()

    def silent(_: object) -> Silence:
        asked_once.set()
        return Silence()

    with misbehaving(silent, answer("yes")) as server:
        async with put_together(tmp_path, near(server.url, timeout_s=200.0)) as parts:
            first = asyncio.ensure_future(parts.llm.complete(asked(), parts.context()))
            await asyncio.to_thread(asked_once.wait, 60)
            second = asyncio.ensure_future(parts.llm.complete(asked(), parts.context()))
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert (await asyncio.wait_for(second, 60)).text == "yes"
    assert server.calls == 2


async def test_of_two_that_paid_the_first_is_right_for_both(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    with misbehaving(answer("first"), answer("second")) as server:

        class Blind(FileJournal):
            """As it looks to a member that asked before the other had written."""

            def find(self, key: CallKey, digest: str) -> Entry | None:
                found = super().find(key, digest)
                return found if self.opened else None

            opened = False

            def record(self, entry: Entry) -> Entry:
                self.opened = True
                return super().record(entry)

        async with put_together(tmp_path, near(server.url)) as parts:
            await parts.llm.complete(asked(), parts.context())
        async with put_together(tmp_path, near(server.url), journal=Blind(files)) as other:
            assert (await other.llm.complete(asked(), other.context())).text == "first"
    assert (server.calls, other.totals.paid, other.totals.doubled) == (2, 1, 1)


def test_entries_come_back_as_they_were(tmp_path: Path) -> None:
    journal = FileJournal(LocalFiles(tmp_path))
    assert journal.find(ENTRY.key, "digest") is None
    assert journal.record(ENTRY) == ENTRY
    assert journal.record(dataclasses.replace(ENTRY, text="no")) == ENTRY
    assert FileJournal(LocalFiles(tmp_path)).find(ENTRY.key, "digest") == ENTRY


@pytest.mark.parametrize("data", [b"", b'{"text": "secret"', b'{"text": "secret"}', b"[]", b"\xff"])
def test_a_damaged_entry_is_an_error_and_tells_no_text(tmp_path: Path, data: bytes) -> None:
    journal = FileJournal(LocalFiles(tmp_path))
    journal.record(ENTRY)
    next(tmp_path.glob("*/*.json")).write_bytes(data)
    with pytest.raises(CorruptRecord, match=r"journal-.*\.json") as raised:
        journal.find(ENTRY.key, "digest")
    assert "secret" not in str(raised.value)


def test_an_entry_under_another_calls_name_is_an_error(tmp_path: Path) -> None:
    journal = FileJournal(LocalFiles(tmp_path))
    journal.record(ENTRY)
    file = next(tmp_path.glob("*/*.json"))
    file.write_bytes(file.read_bytes().replace(b"input-1", b"input-2"))
    with pytest.raises(CorruptRecord, match="another call"):
        journal.find(ENTRY.key, "digest")


def test_pruning_takes_what_is_old(tmp_path: Path) -> None:
    journal = FileJournal(LocalFiles(tmp_path))
    for index in range(20):
        journal.record(dataclasses.replace(ENTRY, index=index))
    written_s = max(file.stat().st_mtime for file in tmp_path.glob("*/*.json"))
    assert sum(journal.prune(written_s - 3600)) == 0
    assert sum(journal.prune(written_s + 1)) == 20
    assert journal.find(ENTRY.key, "digest") is None
