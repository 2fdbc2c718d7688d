"""The arithmetic: from a log to the figures that are told."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from themis_client.bench.log import NOT_SENT, Attempts, Entry
from themis_client.failure import RESENT, Status

OVERLAP = 1.1
"""Times are told by one clock and measured by another, and stages may meet: less than this says nothing."""

STAGES = ("queued", "tokenised", "computed", "rest")


@dataclass(frozen=True, slots=True)
class Spread:
    """Of `count` values, in their unit. Percentiles by nearest rank: each is a value that occurred."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """None where there are none: no value is not 0."""
        ranked = sorted(values)
        if not ranked:
            return None
        p50, p90, p95, p99 = (nearest_rank(ranked, share) for share in (0.5, 0.9, 0.95, 0.99))
        return cls(len(ranked), math.fsum(ranked) / len(ranked), p50, p90, p95, p99, ranked[-1])


def nearest_rank(ranked: Sequence[float], share: float) -> float:
    """The least value that at least `share` of all values don't exceed; `ranked` ascends and isn't empty."""
    return ranked[max(1, math.ceil(share * len(ranked) - 1e-9)) - 1]


@dataclass(frozen=True, slots=True)
class Stages:
    """Where an item's time went, in seconds. rest: network, client, retries, and waiting for the others of its
    call."""

    queued: float
    tokenised: float
    computed: float
    rest: float

    @classmethod
    def of(cls, entry: Entry) -> Stages | None:
        times = entry.timings
        if times is None:
            return None
        told_s = times.queued_s + times.tokenised_s + times.computed_s
        return cls(times.queued_s, times.tokenised_s, times.computed_s, max(0.0, entry.latency_s - told_s))


@dataclass(frozen=True, slots=True)
class Bucket:
    """What happened within one stretch of the run. refused: items in refused attempts, retried ones included."""

    start_s: float
    ok: int
    failed: int
    refused: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Sums over the items that are OK. computed: prompt tokens that no cache and no other item had."""

    prompt: int
    cached: int
    completion: int

    @property
    def computed(self) -> int:
        return self.prompt - self.cached


@dataclass(frozen=True, slots=True)
class Summary:
    """window_s: what rates are over: from the end of the warm-up to the end of the run. finished: OK within it, due
    before it or not: a rate that left out what was under way when it began would be the lower, the longer calls take.
    left_out: attempts that are in the counts, but in neither pushback nor timeline: the log keeps no more of them.
    All else is of the items that were due after the warm-up. Latencies and times in seconds; latency is of items that
    are OK, latency_all of all that were sent."""

    window_s: float
    statuses: dict[str, int]
    finished: int
    finished_tokens: Tokens
    tokens: Tokens
    latency: Spread | None
    latency_all: Spread | None
    behind: Spread | None
    stages: dict[str, Spread]
    prompt_tokens: Spread | None
    overlapping: int
    attempts: dict[str, int]
    refused_attempts: int
    refused_items: int
    pushback: Spread | None
    left_out: int
    versions: dict[str, int]
    timeline: tuple[Bucket, ...]
    bucket_s: float

    @property
    def items(self) -> int:
        return sum(self.statuses.values())

    @property
    def all_ok(self) -> bool:
        """Not where nothing was measured: that says nothing good of a server."""
        return 0 < self.items == self.statuses.get(Status.OK.name, 0)

    @property
    def items_per_s(self) -> float:
        return self.finished / self.window_s if self.window_s > 0 else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Prompt and completion tokens, cached ones included."""
        done = self.finished_tokens
        return (done.prompt + done.completion) / self.window_s if self.window_s > 0 else 0.0

    @property
    def computed_per_s(self) -> float:
        """Tokens that had to be computed."""
        done = self.finished_tokens
        return (done.computed + done.completion) / self.window_s if self.window_s > 0 else 0.0

    @property
    def cached_share(self) -> float | None:
        return self.tokens.cached / self.tokens.prompt if self.tokens.prompt else None


def summarise(
    entries: Sequence[Entry], warm_up: Sequence[Entry], attempts: Attempts, start_s: float, end_s: float
) -> Summary:
    """Of items due after the warm-up, and of all that ended in the window: after start_s, by end_s on their clock."""
    ok = [entry for entry in entries if entry.ok]
    ended = [entry for entry in (*warm_up, *entries) if start_s < entry.done_s <= end_s]
    finished = [entry for entry in ended if entry.ok]
    sent = [entry for entry in entries if entry.status != NOT_SENT]
    parts = [stages for entry in ok if (stages := Stages.of(entry)) is not None]
    spreads = {name: Spread.of(getattr(part, name) for part in parts) for name in STAGES}
    bucket_s = bucket_width_s(end_s - start_s)
    return Summary(
        window_s=end_s - start_s,
        statuses=dict(Counter(entry.status for entry in entries).most_common()),
        finished=len(finished),
        finished_tokens=_tokens(finished),
        tokens=_tokens(ok),
        latency=Spread.of(entry.latency_s for entry in ok),
        latency_all=Spread.of(entry.latency_s for entry in sent),
        behind=Spread.of(entry.sent_s - entry.due_s for entry in entries),
        stages={name: spread for name, spread in spreads.items() if spread is not None},
        prompt_tokens=Spread.of(entry.tokens.prompt for entry in ok if entry.tokens is not None),
        overlapping=sum(_told_s(entry) > OVERLAP * entry.latency_s for entry in ok),
        attempts={status.name: count for status, count in attempts.items.most_common()},
        refused_attempts=attempts.refusals,
        refused_items=sum(count for status, count in attempts.items.items() if status in RESENT),
        pushback=Spread.of(attempts.pushbacks_s),
        left_out=attempts.left_out,
        versions=dict(Counter(entry.version for entry in ok).most_common()),
        timeline=_timeline(ended, attempts, start_s, end_s, bucket_s),
        bucket_s=bucket_s,
    )


def bucket_width_s(window_s: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are between 20 and 60 buckets."""
    for exponent in range(-3, 6):
        for digit in (1, 2, 5):
            width_s: float = digit * 10.0**exponent
            if window_s / width_s <= 60:
                return width_s
    return window_s / 60


def _timeline(
    ended: Sequence[Entry], attempts: Attempts, start_s: float, end_s: float, bucket_s: float
) -> tuple[Bucket, ...]:
    count = max(1, math.ceil((end_s - start_s) / bucket_s - 1e-9))
    ok, failed, refused = [0] * count, [0] * count, [0] * count

    def place(at_s: float) -> int:
        return min(int((at_s - start_s) / bucket_s), count - 1)

    for entry in ended:
        (ok if entry.ok else failed)[place(entry.done_s)] += 1
    for at_s, items in attempts.refused_at_s:
        if start_s <= at_s <= end_s:
            refused[place(at_s)] += items
    return tuple(Bucket(index * bucket_s, ok[index], failed[index], refused[index]) for index in range(count))


def _tokens(entries: Sequence[Entry]) -> Tokens:
    counts = [entry.tokens for entry in entries if entry.tokens is not None]
    return Tokens(
        sum(one.prompt for one in counts), sum(one.cached for one in counts), sum(one.completion for one in counts)
    )


def _told_s(entry: Entry) -> float:
    times = entry.timings
    return 0.0 if times is None else times.queued_s + times.tokenised_s + times.computed_s
