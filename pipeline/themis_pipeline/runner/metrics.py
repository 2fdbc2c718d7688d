"""What a runner tells of itself, in a registry that is passed in; all are by stage."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from themis_pipeline.kafka.seam import Partition

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
PLACE = ("stage", "topic", "partition")


class RunnerFamilies:
    """The metrics themselves: once a registry, however many stages run in the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge("themis_pipeline_lag_records", "Records not yet committed.", PLACE, registry=registry)
        self.in_hand = Gauge(
            "themis_pipeline_in_hand_records", "Records read and not yet committed.", PLACE, registry=registry
        )
        self.progress = Gauge(
            "themis_pipeline_last_progress_timestamp_seconds",
            "When the partition's offset last moved, or the partition came here.",
            PLACE,
            registry=registry,
        )
        self.outcomes = Counter(
            "themis_pipeline_outcomes", "Records handled, by what became of them.", ("stage", "outcome"),
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "themis_pipeline_handle_seconds", "One handling of one record.", ("stage",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.transactions = Counter(
            "themis_pipeline_transactions", "Transactions, by how they ended.", ("stage", "result"), registry=registry
        )
        self.commit_seconds = Histogram(
            "themis_pipeline_commit_seconds", "A transaction that was committed, from its first call to its last.",
            ("stage",), buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.committed = Counter(
            "themis_pipeline_committed_records", "Records whose outputs and offset are committed.", ("stage",),
            registry=registry,
        )  # fmt: skip
        self.moved = Counter(
            "themis_pipeline_partitions_moved", "Partitions that came or went.", ("stage", "how"), registry=registry
        )


class RunnerMetrics:
    """One stage's share. A partition's series go with the partition: a stale lag would hide the true one elsewhere."""

    def __init__(self, families: RunnerFamilies, stage: str) -> None:
        self._families = families
        self._stage = stage
        # Bound once: `labels` costs more than the count itself.
        self._outcomes = {
            outcome: families.outcomes.labels(stage, outcome) for outcome in ("done", "retried", "dead", "dropped")
        }
        self._seconds = families.seconds.labels(stage)
        for result in ("committed", "refused", "failed"):
            families.transactions.labels(stage, result)

    def outcome(self, outcome: str) -> None:
        self._outcomes[outcome].inc()

    def handled(self, seconds: float) -> None:
        self._seconds.observe(seconds)

    def transaction(self, result: str, seconds: float | None = None) -> None:
        self._families.transactions.labels(self._stage, result).inc()
        if seconds is not None:
            self._families.commit_seconds.labels(self._stage).observe(seconds)

    def committed(self, records: int) -> None:
        self._families.committed.labels(self._stage).inc(records)

    def moved(self, how: str, partitions: int) -> None:
        self._families.moved.labels(self._stage, how).inc(partitions)

    def shown(
        self, lag: Mapping[Partition, int], in_hand: Mapping[Partition, int], progress_s: Mapping[Partition, float]
    ) -> None:
        for gauge, values in (
            (self._families.lag, lag),
            (self._families.in_hand, in_hand),
            (self._families.progress, progress_s),
        ):
            for partition, value in values.items():
                gauge.labels(self._stage, partition.topic, str(partition.number)).set(value)

    def gone(self, partition: Partition) -> None:
        for gauge in (self._families.lag, self._families.in_hand, self._families.progress):
            gauge.remove(self._stage, partition.topic, str(partition.number))
