"""`themis bench` against the real server, around a judge whose delays and refusals are known."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.integration.pictures import size_of
from tests.integration.sidecar_fakes import USAGE, VERSION, FakeJudge, serving
from tests.unit.client.clocks import Clock
from themis_client import AsyncClient, BadRequest, Refused, ScoreOptions, UnknownVersion
from themis_client.bench import picture, report, terminal
from themis_client.bench.arrivals import Arrivals
from themis_client.bench.load import Load
from themis_client.bench.log import NOT_SENT, Log
from themis_client.bench.run import INTERRUPTED, Bench, Outcome, Progress
from themis_client.bench.shape import Shape, Words
from themis_client.bench.verdicts import warnings
from themis_client.items import ItemLike
from themis_client.results import Results, Score, Scores, Timings, TokenCounts, Verdict
from themis_judge.engines.base import NO_DEADLINE, Deadline
from themis_judge.items import Item, Options, Result

SHAPE = Shape(
    prompt_words=Words(10, 10),
    response_words=Words(10, 20),
    group_size=2,
    callers=3,
    items_per_call=4,
    rate=None,
    in_flight=8,
    duration_s=None,
    items=60,
    warmup_s=0.0,
    timeout_s=30.0,
    scenario="math",
    mode="rating",
    stream=False,
    retries=True,
    seed=1,
    run="r-",
)


class SlowJudge(FakeJudge):
    """Takes a stated time for each item, and may be told to stop at one."""

    def __init__(self, takes_s: float = 0.005) -> None:
        super().__init__()
        self.takes_s = takes_s
        self.at_once = self.most_at_once = 0

    async def score_one(self, item: Item, options: Options | None = None, deadline: Deadline = NO_DEADLINE) -> Result:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.takes_s)
            return await super().score_one(item, options, deadline)
        finally:
            self.at_once -= 1
            self._changed()  # whoever waits for the last one to end would otherwise wait for ever if it was cancelled


async def bench(
    address: str,
    display: Callable[[Progress], None] = lambda _: None,
    version: str | None = None,
    stop: asyncio.Future[str] | None = None,
    **changes: Any,
) -> Outcome:
    shape = dataclasses.replace(SHAPE, **changes)
    told = asyncio.get_running_loop().create_future() if stop is None else stop
    return await Bench(address, shape, functools.partial(AsyncClient, address), version).run(told, display)


async def test_a_closed_loop_tells_what_the_server_told() -> None:
    judge = SlowJudge()
    async with serving(judge) as served:
        found = await bench(served.address)
    summary = found.summary
    assert summary.statuses == {"OK": 60}
    assert summary.attempts == {"OK": 60}
    assert judge.most_at_once <= 12  # three callers with a call of four each
    assert len(set(judge.started)) == 60
    assert summary.versions == {VERSION: 60}
    assert summary.cached_share == USAGE.cached_tokens / USAGE.prompt_tokens
    assert summary.prompt_tokens is not None
    assert summary.prompt_tokens.mean == USAGE.prompt_tokens
    assert summary.tokens.completion == 60 * USAGE.completion_tokens
    assert {name: spread.p99 for name, spread in summary.stages.items()} == {
        "queued": USAGE.queued_s, "tokenised": 0.125, "computed": USAGE.computed_s, "rest": 0.0,
    }  # fmt: skip
    assert summary.overlapping == 60  # the fake tells longer times than it takes, and the reader is told so
    assert summary.latency is not None
    assert summary.latency.p50 >= judge.takes_s
    assert found.stopped == ""
    assert {entry.due_s == entry.sent_s for entry in found.entries} == {True}


async def test_items_of_the_warm_up_are_not_among_those_measured() -> None:
    async with serving(SlowJudge()) as served:
        found = await bench(served.address, warmup_s=0.2)
    assert found.warm_up_items > 0
    assert len(found.entries) == found.summary.items == 60
    assert all(entry.due_s >= found.start_s for entry in found.entries)


async def test_refusals_are_seen_though_retries_cure_them() -> None:
    async with serving(SlowJudge(), max_queue_tokens=45) as served:
        found = await bench(served.address)
    summary = found.summary
    assert summary.statuses == {"OK": 60}
    assert summary.refused_items == summary.attempts["OVERLOADED"] > 0
    assert summary.refused_attempts * 4 == summary.refused_items
    assert summary.pushback is not None
    assert summary.pushback.count == summary.refused_attempts
    assert summary.pushback.p50 >= 0.1
    assert sum(bucket.refused for bucket in summary.timeline) == summary.refused_items


@pytest.mark.parametrize("stream", [False, True])
async def test_without_retries_refusals_are_failures(stream: bool) -> None:
    judge = SlowJudge()
    async with serving(judge, max_queue_tokens=45, stream_window=64) as served:
        found = await bench(served.address, retries=False, stream=stream)
    if stream:  # a stream is held back in place of being refused
        assert found.summary.statuses == {"OK": 60}
    else:
        assert found.summary.statuses["OVERLOADED"] == found.summary.attempts["OVERLOADED"] > 0
        assert sum(found.summary.statuses.values()) == 60
        assert any("got no score" in warning for warning in warnings(found))


async def test_streams_keep_as_many_items_in_the_air_as_asked_for() -> None:
    judge = SlowJudge()
    async with serving(judge) as served:
        found = await bench(served.address, stream=True, callers=2, items_per_call=5, items=100)
    assert found.summary.statuses == {"OK": 100}
    assert found.summary.attempts == {"OK": 100}
    assert 5 < judge.most_at_once <= 10


@pytest.mark.parametrize("stream", [False, True])
async def test_an_open_loop_sends_when_due(stream: bool) -> None:
    async with serving(SlowJudge()) as served:
        found = await bench(served.address, rate=200.0, items=80, stream=stream, items_per_call=1)
    assert found.summary.statuses == {"OK": 80}
    assert found.summary.behind is not None
    assert all(entry.sent_s >= entry.due_s for entry in found.entries)
    due_s = sorted(entry.due_s for entry in found.entries)
    clock = Arrivals(dataclasses.replace(SHAPE, rate=200.0, items=80, items_per_call=1), lambda: 0.0, 0.0)
    expected = [arrival.due_s for _ in range(80) if (arrival := clock.take()) is not None]
    assert [one - due_s[0] for one in due_s] == pytest.approx([one - expected[0] for one in expected])


class SerialClient:
    """Answers one call after the other, each in `takes_s` of a test's clock."""

    def __init__(self, clock: Clock, takes_s: float) -> None:
        self._clock = clock
        self._takes_s = takes_s
        self.timeouts_s: list[float] = []

    async def score(self, items: list[ItemLike], *, options: ScoreOptions, timeout_s: float) -> Scores:
        self.timeouts_s.append(timeout_s)
        self._clock.now_s += self._takes_s
        one = Score(Verdict(3.0, 3, 0.5), "v1", tokens=TokenCounts(10), timings=Timings())
        return Results([one] * len(items))


async def test_latency_counts_from_when_a_call_was_due() -> None:
    """A server that takes 1 s a call gets 4 calls a second: each call waits for all before it, and says so."""
    shape = dataclasses.replace(
        SHAPE, rate=4.0, items_per_call=1, callers=1, in_flight=1, items=None, duration_s=2.0, timeout_s=4.5
    )
    clock = Clock()
    client, log = SerialClient(clock, 1.0), Log(lambda: clock.now_s)
    await Load(shape, Arrivals(shape, lambda: clock.now_s, 0.0), log, clock.runtime).run([cast(AsyncClient, client)])
    again, done_s, expected = Arrivals(shape, lambda: 0.0, 0.0), 0.0, []
    while (arrival := again.take()) is not None:
        sent_s = max(arrival.due_s, done_s)
        if sent_s - arrival.due_s >= 4.5:
            expected.append((NOT_SENT, sent_s - arrival.due_s))
            continue
        done_s = sent_s + 1.0
        expected.append(("OK", done_s - arrival.due_s))
    assert len(expected) > 5
    assert expected[-1][1] > 3.0  # what a client that waits for its turn to measure would call 1 s
    assert [entry.status for entry in log.entries] == [status for status, _ in expected]
    assert [entry.latency_s for entry in log.entries] == pytest.approx([latency_s for _, latency_s in expected])
    assert NOT_SENT in {entry.status for entry in log.entries}
    assert all(0 < timeout_s <= 4.5 for timeout_s in client.timeouts_s)


async def test_what_was_seen_before_an_interruption_is_told() -> None:
    judge = SlowJudge()
    async with serving(judge) as served:
        stop: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def display(progress: Progress) -> None:
            if len(progress.log.entries) >= 20 and not stop.done():
                stop.set_result(INTERRUPTED)

        shape = dataclasses.replace(SHAPE, items=None, duration_s=60.0)
        make = functools.partial(AsyncClient, served.address)
        found = await Bench(served.address, shape, make, refresh_s=0.01).run(stop, display)
        await judge.until(lambda: judge.at_once == 0)
    assert found.stopped == INTERRUPTED
    assert found.error is None
    assert found.cut_off > 0
    assert 20 <= len(found.entries) < 1000
    assert found.summary.window_s < 30
    assert "interrupted" in warnings(found)[0]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"scenario": "astrology"}, BadRequest, "no scenario 'astrology' here; the server knows "),
        ({"items_per_call": 1000}, BadRequest, "the server takes 512"),
        ({"version": "other"}, UnknownVersion, "other"),
        ({"version": "other", "stream": True}, UnknownVersion, "other"),
    ],
)
async def test_what_can_not_be_loaded_is_said(changes: dict[str, Any], error: type[Exception], said: str) -> None:
    async with serving(FakeJudge()) as served:
        with pytest.raises(error, match=said):
            await bench(served.address, **changes)


async def test_an_error_of_all_calls_ends_the_run_with_what_was_seen() -> None:
    class Withdrawn(AsyncClient):
        calls = 0

        async def score(self, items: Any, **options: Any) -> Scores:
            Withdrawn.calls += 1
            if Withdrawn.calls > 5:
                raise Refused("the token was withdrawn")
            return await super().score(items, **options)

    async with serving(FakeJudge()) as served:
        shape = dataclasses.replace(SHAPE, callers=1)
        stop: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        found = await Bench(served.address, shape, functools.partial(Withdrawn, served.address)).run(
            stop, lambda _: None
        )
    assert found.summary.items == 20
    assert found.stopped == "Refused: the token was withdrawn"
    assert isinstance(found.error, Refused)


async def test_a_busy_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(FakeJudge()) as served:
        found = await bench(served.address)
    busy = dataclasses.replace(found, cpu_share=0.97, late_p99_s=0.001)
    assert "THE CLIENT IS A BOTTLENECK: it took 97% of a core" in warnings(busy)[0]
    idle = dataclasses.replace(found, cpu_share=0.1, late_p99_s=0.001)
    assert not any("BOTTLENECK" in warning for warning in warnings(idle))


async def test_refusals_that_were_not_kept_are_told() -> None:
    async with serving(FakeJudge()) as served:
        found = await bench(served.address)
    assert not any("refused attempts" in warning for warning in warnings(found))
    more = dataclasses.replace(found, summary=dataclasses.replace(found.summary, left_out=7))
    assert any("7 refused attempts are counted" in warning for warning in warnings(more))


async def test_a_run_whose_items_were_all_cut_off_measured_nothing() -> None:
    judge = SlowJudge(takes_s=3600.0)
    async with serving(judge) as served:
        stop: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def display(progress: Progress) -> None:
            if judge.at_once and not stop.done():
                stop.set_result(INTERRUPTED)

        make = functools.partial(AsyncClient, served.address)
        found = await Bench(served.address, SHAPE, make, refresh_s=0.01).run(stop, display)
        await judge.until(lambda: judge.at_once == 0)
    assert found.cut_off > 0
    assert (found.summary.items, found.summary.all_ok) == (0, False)
    assert "nothing was measured" in warnings(found)[0]


# -------------------------------------------------------------------------------------------------- what comes out


async def test_json_picture_and_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(SlowJudge(), max_queue_tokens=45) as served:
        found = await bench(served.address, retries=False)
    report.write(found, tmp_path / "run.json")
    read = json.loads((tmp_path / "run.json").read_text())
    assert read["summary"]["statuses"] == found.summary.statuses
    assert read["shape"]["prompt_words"] == {"low": 10, "high": 10}
    assert read["server"]["current"] == VERSION
    assert {len(column) for column in read["items"].values()} == {60}
    for status, tokens, queued_s in zip(
        read["items"]["status"], read["items"]["prompt_tokens"], read["items"]["queued_s"], strict=True
    ):
        assert (tokens, queued_s) == ((40, 0.5) if status == "OK" else (None, None))
    picture.draw(found, tmp_path / "run.png")
    assert size_of((tmp_path / "run.png").read_bytes()) == (picture.WIDTH_PX, picture.HEIGHT_PX)
    picture.draw(found, tmp_path / "run.svg")
    assert "<svg" in (tmp_path / "run.svg").read_text()[:2000]
    terminal.show(found, terminal.console())
    shown = capsys.readouterr().out
    for word in ("items/s", "latency", "p99", "queued", "OVERLOADED", "hints of", VERSION, "got no score"):
        assert word in shown


async def test_a_run_without_a_single_score_can_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = FakeJudge()
    judge.fake_engine.fail("gone")
    async with serving(judge) as served:
        found = await bench(served.address, retries=False)
    assert found.summary.statuses == {"UNAVAILABLE": 60}
    assert found.summary.cached_share is None
    picture.draw(found, tmp_path / "run.png")
    report.write(found, tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text())["summary"]["latency"] is None
    terminal.show(found, terminal.console())
    assert "60 UNAVAILABLE" in capsys.readouterr().out
