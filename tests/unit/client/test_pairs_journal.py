"""The journal: what a reader finds in it wherever its writer was stopped, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from themis_client.cli_input import Line
from themis_client.errors import BadRequest, ServerFailed, Unavailable
from themis_client.failure import Failure, Status
from themis_client.pairs import record
from themis_client.pairs.journal import Header, opened
from themis_client.pairs.prompt import Prompt
from themis_client.pairs.record import Failed, Judged, Mark, Record
from themis_client.pairs.run import MOST_LOST, Run
from themis_client.pairs.source import Row

HEADER = Header("v1", "digest", {"by": "score", "min-margin": 0.1})
GOOD = [Judged(line, (Mark(0, 0.25), Mark(2, 0.5, 0.125)), "math") for line in (1, 2, 4)]
CURABLE = Failed(2, "x", Status.OVERLOADED, "full", ((0, Status.OVERLOADED, "full"),))

FLOATS = st.floats(0, 1)
MARKS = st.builds(Mark, st.integers(0, 99), FLOATS, st.none() | FLOATS)
TEXTS = st.text(max_size=9) | st.just("\ud800")
STATUSES = st.sampled_from(Status)
RECORDS = st.builds(Judged, st.integers(1), st.lists(MARKS, max_size=4).map(tuple), TEXTS) | st.builds(
    Failed,
    st.integers(1),
    TEXTS,
    STATUSES,
    TEXTS,
    st.lists(st.tuples(st.integers(0, 9), STATUSES, TEXTS), max_size=3).map(tuple),
)


def fill(path: Path, entries: Sequence[Record]) -> None:
    with opened(path) as found, found.renewing(HEADER) as renewal:
        renewal.publish()
        for entry in entries:
            renewal.append(entry)


def entries(path: Path) -> list[Record]:
    with opened(path) as found:
        return list(found.records())


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(entry: Record) -> None:
    line = f"{entry.line_json()}\n".encode()
    assert line.count(b"\n") == 1
    assert record.parse(line) == entry


def test_what_is_appended_is_there(tmp_path: Path) -> None:
    fill(tmp_path / "j", GOOD)
    with opened(tmp_path / "j") as found:
        assert found.header == HEADER
        assert list(found.records()) == GOOD
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


def test_half_a_line_is_none(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, GOOD)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        complete = whole[:end].count(b"\n")
        if end:
            with opened(path) as found:
                assert (found.header is None) is (complete == 0)
                assert list(found.records()) == GOOD[: max(0, complete - 1)]


@pytest.mark.parametrize(
    "line", ["{}", "[]", "nonsense", '{"line":1,"marks":[[0]],"scenario":""}', '{"line":1,"id":""}']
)
def test_what_is_no_record(tmp_path: Path, line: str) -> None:
    path = tmp_path / "j"
    fill(path, GOOD[:1])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(BadRequest, match="line 3: this is no record"):
        entries(path)


@pytest.mark.parametrize(
    ("line", "told"),
    [("nonsense", "no journal"), ("[]", "no journal"), ("{}", "no journal"), ('{"label_pairs": 2}', "another release")],
)
def test_what_is_no_journal(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "j").write_text(f"{line}\n")
    with pytest.raises(BadRequest, match=told), opened(tmp_path / "j"):
        pass
    assert (tmp_path / "j").read_text() == f"{line}\n"


def test_until_it_is_published_the_former_one_stands(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, GOOD)
    with opened(path) as found, found.renewing(HEADER) as renewal:
        renewal.append(GOOD[0])
    assert entries(path) == GOOD
    assert [one.name for one in tmp_path.iterdir()] == ["j"]


def test_a_journal_that_got_nothing_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "j"):
        assert (tmp_path / "j").exists()
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from themis_client.pairs.journal import opened\n"
    script += "with opened(Path(sys.argv[1])): pass"

    def other() -> str:
        command = [sys.executable, "-c", script, str(tmp_path / "j")]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    with opened(tmp_path / "j") as found:
        assert "another run is writing it" in other()
        with found.renewing(HEADER) as renewal:
            renewal.publish()
            assert "another run is writing it" in other()
        assert "another run is writing it" in other()
    assert other() == ""


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (HEADER, []),
        (Header("v1", "other", HEADER.flags), ["the input is another one, or was changed"]),
        (Header("v2", "digest", HEADER.flags), ["--version was v1, and is v2"]),
        (Header("v1", "digest", {"by": "score"}), ["--min-margin was 0.1, and is None"]),
        (
            Header("v1", "digest", {"by": "compare", "min-margin": 0.2}),
            ["--by was score, and is compare", "--min-margin was 0.1, and is 0.2"],
        ),
    ],
)
def test_differences(asked: Header, told: list[str]) -> None:
    assert HEADER.differences(asked) == told


# ------------------------------------------------------------------------------------------------------------- runs


def rows(*numbers: int) -> list[Row]:
    return [Line(number, Prompt(f"q{number}", ("a", "b"), None, "", "")) for number in numbers]


class Judge:
    """Lets rows finish in an order of its own: each waits for the one that `waits_for` names, for ever if there is no
    such row. Those in `fails` stop the run, those in `lost` come to nothing."""

    def __init__(
        self,
        waits_for: dict[int, int] | None = None,
        fails: Sequence[int] = (),
        lost: Sequence[int] = (),
        prefills: int = 1,
    ) -> None:
        self._waits_for = waits_for or {}
        self._fails = fails
        self._lost = lost
        self._prefills = prefills
        self._ended: dict[int, asyncio.Event] = {}
        self.waiting = asyncio.Event()
        self.seen: list[int] = []
        self.most = 0
        self._under = 0

    def cost(self, prompt: Prompt) -> int:
        return self._prefills

    async def record(self, prompt: Prompt, line: int) -> Record:
        self.seen.append(line)
        self._under += 1
        self.most = max(self.most, self._under)
        try:
            if line in self._waits_for:
                self.waiting.set()
                await self._event(self._waits_for[line]).wait()
            if line in self._fails:
                raise Unavailable(f"gone at {line}")
            if line in self._lost:
                return Failed(line, "", Status.ENGINE_ERROR, "it broke")
            await asyncio.sleep(0)
            return Judged(line, (), f"of {line}")
        finally:
            self._under -= 1
            self._event(line).set()

    def _event(self, line: int) -> asyncio.Event:
        return self._ended.setdefault(line, asyncio.Event())


async def judged(path: Path, source: Sequence[Row], judge: Judge, window: int = 3) -> list[str]:
    said: list[str] = []
    with opened(path) as found, found.renewing(HEADER) as renewal:
        before = found.records() if found.header else iter(())
        await Run(judge, window, said.append, lambda: None).judge_all(source, before, renewal)
    return said


async def test_records_stand_in_the_inputs_order(tmp_path: Path) -> None:
    judge = Judge({1: 3, 2: 3, 4: 5})
    await judged(tmp_path / "j", rows(1, 2, 3, 4, 5, 8), judge)
    assert [entry.line for entry in entries(tmp_path / "j")] == [1, 2, 3, 4, 5, 8]
    assert judge.most == 3


async def test_no_more_than_the_window_are_under_way(tmp_path: Path) -> None:
    judge = Judge()
    await judged(tmp_path / "j", rows(*range(1, 40)), judge, window=5)
    assert judge.most <= 5
    assert len(judge.seen) == 39


@pytest.mark.parametrize(("prefills", "most"), [(1, 32), (8, 32), (56, 5), (255, 2), (256, 1), (5000, 1)])
async def test_prompts_with_many_prefills_are_fewer_at_a_time(tmp_path: Path, prefills: int, most: int) -> None:
    judge = Judge(prefills=prefills)
    await judged(tmp_path / "j", rows(*range(1, 80)), judge, window=32)
    assert judge.most == most
    assert len(judge.seen) == 79


async def test_what_was_finished_in_order_is_kept(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="gone at 3"):
        await judged(tmp_path / "j", rows(*range(1, 9)), Judge(fails=(3, 4, 5)))
    assert [entry.line for entry in entries(tmp_path / "j")] == [1, 2]
    judge = Judge()
    await judged(tmp_path / "j", rows(*range(1, 9)), judge)
    assert judge.seen == [3, 4, 5, 6, 7, 8]
    assert [entry.line for entry in entries(tmp_path / "j")] == list(range(1, 9))


async def test_only_what_a_later_try_may_cure_is_judged_again(tmp_path: Path) -> None:
    hopeless = Failed(3, "", Status.TOO_LONG, "long", ((0, Status.TOO_LONG, "long"),))
    fill(tmp_path / "j", [GOOD[0], CURABLE, hopeless])
    judge = Judge()
    await judged(tmp_path / "j", rows(1, 2, 3, 4), judge)
    assert judge.seen == [2, 4]
    assert entries(tmp_path / "j") == [
        GOOD[0],
        Judged(2, (), "of 2"),
        hopeless,
        Judged(4, (), "of 4"),
    ]


async def test_a_try_to_cure_that_is_stopped_loses_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "j", [GOOD[0], CURABLE, Judged(3, (), "")])
    with pytest.raises(Unavailable):
        await judged(tmp_path / "j", rows(1, 2, 3, 4), Judge(fails=(2,)))
    assert entries(tmp_path / "j") == [GOOD[0], CURABLE, Judged(3, (), "")]


def left_to_cure(path: Path) -> list[Record]:
    """Lines 1 to 6, of which all but 1 and 5 are to be judged again."""
    left: list[Record] = [Failed(line, "", Status.OVERLOADED, "full") for line in range(1, 7)]
    left[0], left[4] = Judged(1, (), ""), Judged(5, (), "")
    fill(path, left)
    return left


async def test_what_was_cured_stays_cured_when_the_rest_cant_be(tmp_path: Path) -> None:
    left = left_to_cure(tmp_path / "j")
    with pytest.raises(Unavailable):
        await judged(tmp_path / "j", rows(1, 2, 3, 4, 5, 6, 7), Judge({3: 4}, fails=(3,)))
    assert entries(tmp_path / "j") == [left[0], Judged(2, (), "of 2"), left[2], Judged(4, (), "of 4"), *left[4:]]
    judge = Judge()
    await judged(tmp_path / "j", rows(1, 2, 3, 4, 5, 6, 7), judge)
    assert judge.seen == [3, 6, 7]
    assert [entry.line for entry in entries(tmp_path / "j")] == [1, 2, 3, 4, 5, 6, 7]


async def test_what_was_cured_stays_cured_when_the_time_is_over(tmp_path: Path) -> None:
    left, judge = left_to_cure(tmp_path / "j"), Judge({3: 99})
    run = asyncio.ensure_future(judged(tmp_path / "j", rows(1, 2, 3, 4, 5, 6, 7), judge, window=1))
    await judge.waiting.wait()
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    assert entries(tmp_path / "j") == [left[0], Judged(2, (), "of 2"), *left[2:]]


async def test_what_was_cured_stays_cured_when_the_first_new_row_stops_the_run(tmp_path: Path) -> None:
    left = left_to_cure(tmp_path / "j")
    with pytest.raises(Unavailable):
        await judged(tmp_path / "j", rows(1, 2, 3, 4, 5, 6, 7), Judge(fails=(7,)), window=1)
    cured = [Judged(line, (), f"of {line}") for line in (2, 3, 4)]
    assert entries(tmp_path / "j") == [left[0], *cured, left[4], Judged(6, (), "of 6")]


async def test_a_first_row_that_stops_the_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await judged(tmp_path / "j", rows(1, 2), Judge(fails=(1,)))
    assert not (tmp_path / "j").exists()


async def test_rows_that_all_come_to_nothing_stop_the_run(tmp_path: Path) -> None:
    source, told = (
        rows(*range(1, 100)),
        f"{MOST_LOST} prompts in a row failed, the last one, line {{}}, with ENGINE_ERROR",
    )
    for tries in (1, 2):  # those that are tried again in vain don't keep the second from going on
        with pytest.raises(ServerFailed, match=told.format(tries * MOST_LOST)):
            await judged(tmp_path / "j", source, Judge(lost=range(1, 100)))
        assert [entry.line for entry in entries(tmp_path / "j")] == list(range(1, tries * MOST_LOST + 1))
    await judged(tmp_path / "j", source, Judge())
    assert all(isinstance(entry, Judged) for entry in entries(tmp_path / "j"))


async def test_rows_that_come_to_nothing_now_and_then_stop_nothing(tmp_path: Path) -> None:
    lost = [line for line in range(1, 100) if line % MOST_LOST]
    await judged(tmp_path / "j", rows(*range(1, 100)), Judge(lost=lost))
    assert [entry.line for entry in entries(tmp_path / "j") if isinstance(entry, Failed)] == lost


async def test_a_row_that_cant_be_read_is_told_once(tmp_path: Path) -> None:
    bad: Row = Line(2, Failure(Status.INVALID, "line 2: not JSON", key="k"))
    source = [*rows(1), bad, *rows(3)]
    assert await judged(tmp_path / "j", source, Judge()) == ["line 2: not JSON"]
    assert entries(tmp_path / "j")[1] == Failed(2, "k", Status.INVALID, "line 2: not JSON")
    assert await judged(tmp_path / "j", source, Judge()) == []


@pytest.mark.parametrize(
    ("source", "told"), [(rows(1, 3, 4), "line 2 where the input has line 3"), (rows(1), "more rows than the input")]
)
async def test_a_journal_of_other_rows(tmp_path: Path, source: list[Row], told: str) -> None:
    fill(tmp_path / "j", GOOD)
    with pytest.raises(BadRequest, match=told):
        await judged(tmp_path / "j", source, Judge())
    assert entries(tmp_path / "j") == GOOD


def test_a_former_journal_of_the_name_is_not_mistaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking another process may end, and leave a new file under the name."""
    path = tmp_path / "j"
    fill(path, GOOD)

    def exchanged(file: object, flags: int) -> None:
        (tmp_path / "new").write_bytes(path.read_bytes())
        (tmp_path / "new").rename(path)

    monkeypatch.setattr(fcntl, "flock", exchanged)
    with pytest.raises(BadRequest, match="another run has just written it"), opened(path):
        pass
