"""The figures of a run, on values computed by hand."""

from __future__ import annotations

import random

import pytest

from themis_client.attempts import Attempt
from themis_client.bench.arrivals import Arrivals
from themis_client.bench.log import NOT_SENT, Attempts, Entry
from themis_client.bench.meter import Meter
from themis_client.bench.shape import Shape, Words
from themis_client.bench.summary import Spread, Stages, bucket_width_s, nearest_rank, summarise
from themis_client.bench.terminal import sparkline
from themis_client.bench.texts import Texts
from themis_client.bench.words import rate, seconds, share
from themis_client.content import Text
from themis_client.deadline import Runtime
from themis_client.failure import Status
from themis_client.items import Item
from themis_client.results import Timings, TokenCounts

SHAPE = Shape(
    prompt_words=Words(5, 5),
    response_words=Words(3, 9),
    group_size=2,
    callers=1,
    items_per_call=3,
    rate=None,
    in_flight=1,
    duration_s=10.0,
    items=None,
    warmup_s=2.0,
    timeout_s=5.0,
    scenario="math",
    mode="rating",
    stream=False,
    retries=True,
    seed=7,
    run="r-",
)


def shape(**changes: object) -> Shape:
    import dataclasses

    return dataclasses.replace(SHAPE, **changes)  # type: ignore[arg-type]


def ok(due_s: float, sent_s: float, done_s: float, timings: Timings = Timings(), cached: int = 0) -> Entry:  # noqa: B008
    return Entry(due_s, sent_s, done_s, "OK", "v1", TokenCounts(100, cached, 4), timings)


# ------------------------------------------------------------------------------------------------------- percentiles


@pytest.mark.parametrize(
    ("count", "share_asked", "expected"),
    [(1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 2), (10, 0.9, 9), (100, 0.99, 99), (101, 0.99, 100), (20, 0.95, 19), (4, 0, 1)],
)
def test_nearest_ranks(count: int, share_asked: float, expected: int) -> None:
    assert nearest_rank([float(value) for value in range(1, count + 1)], share_asked) == expected


def test_a_spread() -> None:
    values = [float(value) for value in range(1, 201)]
    random.Random(0).shuffle(values)
    assert Spread.of(values) == Spread(200, 100.5, 100.0, 180.0, 190.0, 198.0, 200.0)


def test_no_values_have_no_spread() -> None:
    assert Spread.of([]) is None


# ------------------------------------------------------------------------------------------------------------ stages


def test_the_rest_is_what_the_server_did_not_tell() -> None:
    stages = Stages.of(ok(1.0, 1.5, 3.0, Timings(queued_s=0.5, tokenised_s=0.25, computed_s=0.75)))
    assert stages == Stages(0.5, 0.25, 0.75, 0.5)


def test_prompts_computed_at_once_leave_no_negative_rest() -> None:
    entry = ok(0.0, 0.0, 1.0, Timings(computed_s=4.0))
    assert Stages.of(entry) == Stages(0.0, 0.0, 4.0, 0.0)
    assert summarise([entry], [], Attempts(), 0.0, 1.0).overlapping == 1


def test_failed_items_have_no_stages() -> None:
    assert Stages.of(Entry(0.0, 0.0, 1.0, "OVERLOADED", "")) is None


# ----------------------------------------------------------------------------------------------------------- summary


def test_rates_count_what_was_done_within_the_window_and_latencies_all() -> None:
    entries = [
        ok(10.0, 10.0, 11.0, cached=40),
        ok(12.0, 13.0, 14.0),
        ok(19.0, 19.0, 23.0, cached=60),  # after the window: no part of the rate
        Entry(15.0, 15.0, 15.5, "OVERLOADED", "v1"),
        Entry(16.0, 21.0, 21.0, NOT_SENT, ""),
    ]
    found = summarise(entries, [], Attempts(), 10.0, 20.0)
    assert found.statuses == {"OK": 3, "OVERLOADED": 1, "NOT_SENT": 1}
    assert (found.items, found.finished, found.all_ok) == (5, 2, False)
    assert found.items_per_s == 0.2
    assert found.tokens_per_s == 20.8  # 2 x (100 + 4) in 10 s
    assert found.computed_per_s == 16.8  # 40 of them cached
    assert found.cached_share == pytest.approx(100 / 300)
    assert found.latency is not None
    assert (found.latency.count, found.latency.p50, found.latency.max) == (3, 2.0, 4.0)
    assert found.latency_all is not None
    assert found.latency_all.count == 4  # an item that was never sent has no latency
    assert found.behind is not None
    assert found.behind.max == 5.0
    assert found.versions == {"v1": 3}


def test_what_was_under_way_when_the_window_began_counts_for_the_rate_alone() -> None:
    """A server that gives one item a second, to ten callers: each item takes ten seconds."""
    each = [ok(done_s - 10.0, done_s - 10.0, done_s) for done_s in range(1, 41)]
    warm_up, entries = [one for one in each if one.due_s < 20.0], [one for one in each if one.due_s >= 20.0]
    found = summarise(entries, warm_up, Attempts(), 20.0, 40.0)
    assert found.items_per_s == 1.0
    assert sum(bucket.ok for bucket in found.timeline) == found.finished
    assert found.latency is not None
    assert found.latency.count == found.items == len(entries) == 11


def test_attempts_are_counted_item_by_item_and_hints_once_a_call() -> None:
    attempts = Attempts()
    attempts.add(Attempt("a", (Status.OVERLOADED,) * 4, 0.5), 3.0)
    attempts.add(Attempt("a", (Status.OK, Status.OK, Status.UNAVAILABLE, Status.OFF_FORMAT)), 4.5)
    found = summarise([], [], attempts, 0.0, 10.0)
    assert found.attempts == {"OVERLOADED": 4, "OK": 2, "UNAVAILABLE": 1, "OFF_FORMAT": 1}
    assert (found.refused_attempts, found.refused_items) == (2, 5)
    assert found.pushback == Spread(1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert [(bucket.start_s, bucket.refused) for bucket in found.timeline if bucket.refused] == [(3.0, 4), (4.4, 1)]
    assert found.latency is None
    assert found.cached_share is None


def test_refusals_beyond_what_a_run_may_keep_are_counted_and_told() -> None:
    attempts = Attempts(most=2)
    for at_s in (1.0, 2.0, 3.0, 4.0):
        attempts.add(Attempt("a", (Status.OVERLOADED,) * 3, 0.5), at_s)
    attempts.add(Attempt("a", (Status.OK,)), 5.0)
    assert (len(attempts.refused_at_s), len(attempts.pushbacks_s)) == (2, 2)
    found = summarise([], [], attempts, 0.0, 10.0)
    assert (found.refused_attempts, found.refused_items, found.left_out) == (4, 12, 2)
    assert sum(bucket.refused for bucket in found.timeline) == 6


def test_nothing_measured_is_not_all_ok() -> None:
    assert not summarise([], [], Attempts(), 0.0, 10.0).all_ok
    assert summarise([ok(1.0, 1.0, 2.0)], [], Attempts(), 0.0, 10.0).all_ok


def test_the_timeline_has_every_item_of_the_window_once() -> None:
    entries = [ok(0.0, 0.0, done_s) for done_s in (0.0, 0.1, 0.19, 0.2, 9.99, 10.0, 10.01)]
    entries.append(Entry(0.0, 0.0, 5.0, "INVALID", ""))
    found = summarise(entries, [], Attempts(), 0.0, 10.0)
    assert found.bucket_s == 0.2
    assert len(found.timeline) == 50
    # What was answered at its first moment belongs to the time before, or two windows would both count it.
    assert [bucket.ok for bucket in found.timeline if bucket.ok] == [2, 1, 2]
    assert found.finished == 5
    assert [bucket.start_s for bucket in found.timeline if bucket.failed] == [5.0]


@pytest.mark.parametrize(("window_s", "expected"), [(0.5, 0.01), (6, 0.1), (30, 0.5), (60, 1), (61, 2), (3600, 100)])
def test_buckets_are_round_and_few(window_s: float, expected: float) -> None:
    assert bucket_width_s(window_s) == pytest.approx(expected)


# ---------------------------------------------------------------------------------------------------------- arrivals


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_closed_loop_is_due_when_it_is_asked() -> None:
    clock = Clock()
    arrivals = Arrivals(SHAPE, clock, clock())
    first = arrivals.take()
    assert first is not None
    assert (first.indices, first.due_s, first.measured) == (range(3), 100.0, False)
    clock.now_s = 102.0
    second = arrivals.take()
    assert second is not None
    assert (second.indices, second.due_s, second.measured) == (range(3, 6), 102.0, True)
    clock.now_s = 112.0
    assert arrivals.take() is None


def test_an_open_loop_keeps_its_times_however_late_it_is_asked() -> None:
    def times(late_s: float) -> list[float]:
        clock = Clock()
        arrivals = Arrivals(shape(rate=30.0), clock, clock())
        clock.now_s += late_s
        found = []
        while (arrival := arrivals.take()) is not None:
            found.append(arrival.due_s)
        return found

    due_s = times(0.0)
    assert due_s == times(50.0)
    assert due_s == sorted(due_s)
    assert due_s[-1] < 112.0
    # 12 s at 10 calls a second (30 items/s, 3 items a call): 120 on the average, with a deviation of 11.
    assert 75 <= len(due_s) <= 165


def test_a_number_of_items_ends_the_run_and_the_warm_up_does_not_count() -> None:
    clock = Clock()
    arrivals = Arrivals(shape(duration_s=None, items=7), clock, clock())
    assert arrivals.take() is not None
    clock.now_s = 102.0
    assert [arrival.items for _ in range(3) if (arrival := arrivals.take()) is not None] == [3, 3, 1]
    assert arrivals.take() is None
    assert not arrivals.full


# ------------------------------------------------------------------------------------------------------------- texts


def words_of(item: Item) -> tuple[str, str]:
    [question] = item.messages[0].parts
    [answer] = item.response.messages[0].parts
    assert isinstance(question, Text)
    assert isinstance(answer, Text)
    return question.text, answer.text


def test_texts_have_the_lengths_asked_for_and_share_what_the_shape_says() -> None:
    texts = Texts(SHAPE)
    items = [texts.item(index) for index in range(40)]
    questions, answers = zip(*map(words_of, items), strict=True)
    assert {len(question.split()) for question in questions} == {5}
    assert {len(answer.split()) for answer in answers} == set(range(3, 10))
    assert len(set(questions)) == 20
    assert questions[0] == questions[1] != questions[2]
    assert len({answer.split()[0] for answer in answers}) == 40  # no two begin alike
    assert {item.scenario for item in items} == {"math"}
    assert len({item.key for item in items}) == 40


def test_runs_of_a_seed_differ_in_their_names_only() -> None:
    def content(run: str, seed: int = 7) -> list[list[str]]:
        texts = Texts(shape(run=run, seed=seed))
        return [text.split() for index in range(10) for text in words_of(texts.item(index))]

    one, other = content("one-"), content("other-")
    assert [text[1:] for text in one] == [text[1:] for text in other]
    assert all(a[0] != b[0] for a, b in zip(one, other, strict=True))
    assert content("") == content("")
    assert content("", seed=8) != content("")


def test_texts_longer_than_the_pool_they_are_cut_from() -> None:
    question, _ = words_of(Texts(shape(prompt_words=Words(200_000, 200_000))).item(3))
    assert len(question.split()) == 200_000


@pytest.mark.parametrize("text", ["0", "-3", "5-2", "a", "", "1-", "1.5"])
def test_lengths_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Words.parse(text)


def test_lengths() -> None:
    assert (Words.parse("12"), Words.parse("3-40")) == (Words(12, 12), Words(3, 40))
    assert (str(Words(12, 12)), str(Words(3, 40))) == ("12", "3-40")


# ------------------------------------------------------------------------------------------------------------- parts


async def test_the_meter_tells_the_clients_own_share() -> None:
    wall, cpu = Clock(), Clock()

    async def sleep(seconds: float) -> None:
        if len(meter.late_s) == 3:
            raise TimeoutError
        wall.now_s += seconds + 0.05
        cpu.now_s += 0.03

    meter = Meter(Runtime(clock=wall, sleep=sleep), cpu)
    meter.start()
    with pytest.raises(TimeoutError):
        await meter.run()
    assert meter.late_s == pytest.approx([0.05] * 3)
    assert meter.cpu_share == pytest.approx(0.2)


def test_words_for_figures() -> None:
    assert [seconds(value) for value in (0, 0.000012, 0.0123, 1.234, 75.6, 3600.4)] == [
        "0", "12 µs", "12.3 ms", "1.23 s", "75.6 s", "3,600 s",
    ]  # fmt: skip
    assert [rate(value) for value in (0.1234, 12.34, 123.4, 123456)] == ["0.123", "12.3", "123", "123,456"]
    assert [share(value) for value in (None, 0, 0.0512, 0.5)] == ["not told", "0%", "5.1%", "50%"]


def test_a_line_of_bars() -> None:
    assert sparkline([0, 1, 2, 4, 8]) == " ▁▂▄█"
    assert sparkline([0, 0]) == sparkline([]) == ""
