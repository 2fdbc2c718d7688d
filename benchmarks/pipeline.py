"""What the pipeline's runner costs, and how well it hides a slow call behind the others.

On a broker of Apache Kafka that is started for this, on the same machine.

`runner_share`: records a second with a handler that gives each record back at once, next to a consumer and a
transactional producer of kafka-python in a plain loop: same settings of the client, same records, as many records in
a transaction as the runner's had on the mean. From the first record that is read to the last that is committed.

`slow_tail_share`: one call in a hundred takes a hundred times as long as the others, as LLMs' do. `ideal`: what the
same latencies, in the same order, allow to a window of the same size in which nothing else takes time. A record of a
partition can begin when the record a window's length before it, and so all before that, is done: begin(i) =
done(i - W), end(i) = begin(i) + latency(i), done(i) = max(done(i - 1), end(i)); the run takes as long as its slowest
partition. Real calls are longer still, so that what the runner adds weighs less.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from prometheus_client import CollectorRegistry
from rich.progress import Progress

from benchmarks.harness import REPETITIONS, Row, rate, ratio, report
from benchmarks.streams import PATIENCE_S, Run, Streams, by_hand, streams
from themis_pipeline.kafka.seam import Output
from themis_pipeline.kafka.transport import KafkaTransport
from themis_pipeline.runner.failpoints import Step
from themis_pipeline.runner.metrics import RunnerFamilies, RunnerMetrics
from themis_pipeline.runner.retries import Retries
from themis_pipeline.runner.runner import Runner, RunnerLimits
from themis_pipeline.runner.stage import DeadRecord, Delivery
from themis_pipeline.runner.watchdog import Watchdog

BARS = {"runner_share": ("at least", 0.8), "slow_tail_share": ("at least", 0.9)}

PARTITIONS = 12  # as most topics of the pipeline have
RECORD_BYTES = 1024
RECORDS = 1_000  # of each partition
CALL_S, SLOW_CALL_S, SLOW_ONE_IN = 0.05, 5.0, 100
CALLS = 400  # of each partition
LIMITS = RunnerLimits()


class Plain:
    """Gives each record back as it came."""

    def __init__(self, group: str, source: str, out: str) -> None:
        self.name = group
        self.topics = (source,)
        self.began_s = 0.0
        self._out = out

    async def handle(self, delivery: Delivery) -> Sequence[Output]:
        self.began_s = self.began_s or time.perf_counter()
        return [Output(self._out, delivery.record.key, delivery.record.value or b"")]


class Calls(Plain):
    """The same after as long as the record says."""

    async def handle(self, delivery: Delivery) -> Sequence[Output]:
        outputs = await super().handle(delivery)
        await asyncio.sleep(float(delivery.record.value or b""))
        return outputs


class Commits:
    """Counts transactions, and notes the end of the last."""

    def __init__(self) -> None:
        self.count = 0
        self.last_s = 0.0

    def reach(self, step: Step) -> None:
        if step is Step.COMMITTED:
            self.count += 1
            self.last_s = time.perf_counter()


@dataclass(frozen=True, slots=True)
class Names:
    """Of one run; the source is every run's."""

    source: str
    group: str

    @property
    def out(self) -> str:
        return f"{self.group}-out"

    @property
    def retry(self) -> str:
        return f"{self.group}-retry"


def bury(dead: DeadRecord) -> Output:
    raise RuntimeError(f"a record failed: {dead.error}")


async def through_runner(made: Streams, stage: Plain, names: Names, records: int) -> Run:
    registry, commits, watchdog = CollectorRegistry(), Commits(), Watchdog()
    watchdog.start()
    metrics = RunnerMetrics(RunnerFamilies(registry), stage.name)
    transport = KafkaTransport({"bootstrap_servers": made.address})
    runner = Runner(
        stage, Retries(stage.name, names.retry, bury), transport, stage.name, watchdog, metrics, LIMITS, commits
    )
    task = asyncio.create_task(runner.run())
    try:
        until_s = time.monotonic() + PATIENCE_S
        while _committed(registry, stage.name) < records:
            await asyncio.wait({task}, timeout=0.05)
            if task.done() or time.monotonic() > until_s:
                raise RuntimeError(f"{_committed(registry, stage.name):g} of {records} records came through")
    finally:
        runner.stop()
        await task
        watchdog.stop()
    return Run(records, commits.last_s - stage.began_s, commits.count)


def _committed(registry: CollectorRegistry, stage: str) -> float:
    return registry.get_sample_value("themis_pipeline_committed_records_total", {"stage": stage}) or 0.0


def prepared(made: Streams, names: Names) -> Names:
    made.create(names.out, names.retry)
    made.begin(names.group, names.source, names.retry)
    return names


def checked(made: Streams, names: Names, run: Run) -> Run:
    """A figure of a run that lost or doubled something is none."""
    found = made.count(names.out)
    if found != run.records:
        raise RuntimeError(f"{found} records came out of {run.records}")
    return run


# ---------------------------------------------------------------------------------------------- runner_share


async def share(made: Streams, progress: Progress) -> list[Row]:
    records = RECORDS * made.partitions
    made.create("plain")
    chance = random.Random(1)
    made.fill("plain", [[chance.randbytes(RECORD_BYTES) for _ in range(RECORDS)] for _ in range(made.partitions)])
    ours: list[Run] = []
    theirs: list[Run] = []
    for round_ in progress.track(range(REPETITIONS + 1), description="runner and plain loop"):
        for whose in ("ours", "theirs") if round_ % 2 == 0 else ("theirs", "ours"):
            names = prepared(made, Names("plain", f"plain-{whose}-{round_}"))
            if whose == "ours":
                run = await through_runner(made, Plain(names.group, names.source, names.out), names, records)
                ours.append(checked(made, names, run))
            else:
                per_transaction = round(ours[-1].records_per_transaction)
                run = by_hand(made, names.source, names.out, names.group, records, per_transaction)
                theirs.append(checked(made, names, run))
    return [
        ratio("runner_share", _rates(ours), _rates(theirs)),
        rate("runner_records_per_s", _rates(ours), "records/s"),
        rate("loop_records_per_s", _rates(theirs), "records/s"),
        rate("runner_records_per_transaction", [run.records_per_transaction for run in ours[1:]], "records"),
        rate("loop_records_per_transaction", [run.records_per_transaction for run in theirs[1:]], "records"),
    ]


def _rates(runs: Sequence[Run]) -> list[float]:
    """Without the first, which warmed up."""
    return [run.rate for run in runs[1:]]


# ---------------------------------------------------------------------------------------------- slow_tail_share


def latencies(seed: int, calls: int) -> list[float]:
    """One in each hundred is slow, at a place by chance."""
    chance = random.Random(seed)
    made: list[float] = []
    while len(made) < calls:
        slow = chance.randrange(SLOW_ONE_IN)
        made += [SLOW_CALL_S if place == slow else CALL_S for place in range(SLOW_ONE_IN)]
    return made[:calls]


def ideal_s(columns: Sequence[Sequence[float]], window: int) -> float:
    return max(_partition_s(column, window) for column in columns)


def _partition_s(column: Sequence[float], window: int) -> float:
    done: list[float] = []
    for place, latency_s in enumerate(column):
        begin_s = done[place - window] if place >= window else 0.0
        done.append(max(done[-1] if done else 0.0, begin_s + latency_s))
    return done[-1]


async def slow_tail(made: Streams, progress: Progress) -> list[Row]:
    made.create("warm-calls")
    made.fill("warm-calls", [[_value(CALL_S)] * 10] * made.partitions)
    warm = prepared(made, Names("warm-calls", "calls-warm"))
    await through_runner(made, Calls(warm.group, warm.source, warm.out), warm, 10 * made.partitions)
    ours: list[float] = []
    ideals: list[float] = []
    for round_ in progress.track(range(REPETITIONS), description="slow calls"):
        columns = [latencies(round_ * made.partitions + number, CALLS) for number in range(made.partitions)]
        names = Names(f"calls-{round_}", f"calls-run-{round_}")
        made.create(names.source)
        made.fill(names.source, [[_value(latency_s) for latency_s in column] for column in columns])
        prepared(made, names)
        records = CALLS * made.partitions
        run = await through_runner(made, Calls(names.group, names.source, names.out), names, records)
        ours.append(checked(made, names, run).rate)
        ideals.append(records / ideal_s(columns, LIMITS.window_records))
    return [
        ratio("slow_tail_share", ours, ideals),
        rate("slow_tail_calls_per_s", ours, "calls/s"),
        rate("slow_tail_ideal_calls_per_s", ideals, "calls/s"),
    ]


def _value(latency_s: float) -> bytes:
    return str(latency_s).encode()


async def run(parts: Sequence[str]) -> None:
    rows: list[Row] = []
    with streams(PARTITIONS) as made, Progress(transient=True) as progress:
        if "share" in parts:
            rows += await share(made, progress)
        if "slow" in parts:
            rows += await slow_tail(made, progress)
    notes = [
        f"{PARTITIONS} partitions, records of {RECORD_BYTES} bytes, windows of {LIMITS.window_records} records",
        f"calls of {CALL_S:g} s, one in {SLOW_ONE_IN} of {SLOW_CALL_S:g} s; {os.cpu_count()} cores, broker included",
    ]
    report("pipeline", rows, BARS, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=("share", "slow"), default=["share", "slow"])
    asyncio.run(run(parser.parse_args().parts))


if __name__ == "__main__":
    main()
