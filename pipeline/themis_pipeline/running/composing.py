"""Each stage as it runs in a process: around its handler, with a group, a consumer, a producer and ids of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from themis_pipeline.config import PipelineConfig
from themis_pipeline.dead_letters.letters import Burial
from themis_pipeline.kafka.connection import connection
from themis_pipeline.kafka.transport import KafkaTransport, TransportLimits
from themis_pipeline.runner.committing import CommittingLimits
from themis_pipeline.runner.handling import HandlingLimits
from themis_pipeline.runner.metrics import RunnerFamilies, RunnerMetrics
from themis_pipeline.runner.polling import PollingLimits
from themis_pipeline.runner.retries import Retries, RetryPolicy
from themis_pipeline.runner.runner import Runner, RunnerLimits
from themis_pipeline.runner.watchdog import Watchdog
from themis_pipeline.running.adapter import EventStage
from themis_pipeline.running.burying import LoggedBurial
from themis_pipeline.running.kind import Kind
from themis_pipeline.running.logs import Logger
from themis_pipeline.running.parts import Parts
from themis_pipeline.running.patience import Patience
from themis_pipeline.topics import STAGES, Topic, dead_letter_topic, retry_topic

CANCEL_S = 30.0
"""How much longer than its deadline a handling may take before it is cut off: calls have the deadline themselves."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every stage of the process is given beside its parts. instance: of its transactional ids."""

    config: PipelineConfig
    instance: str
    transport: KafkaTransport
    watchdog: Watchdog
    families: RunnerFamilies
    patience: Patience
    logger: Logger


def make_runner(name: str, kind: Kind, parts: Parts, around: Surroundings) -> Runner:
    config = around.config
    reads = [topic.placed(config.topics) for topic in STAGES[name]]
    stage = EventStage(
        config.topics.prefix + name,
        kind.handler(parts),
        {topic.name: topic for topic in reads},
        kind.route(config.topics),
        config.runner.handle_timeout_s,
        around.patience,
        around.logger.bind(stage=name),
    )
    return Runner(
        stage,
        make_retries(name, kind.writes, around),
        around.transport,
        f"{stage.name}-{around.instance}",
        around.watchdog,
        RunnerMetrics(around.families, name),
        _limits(config),
    )


def make_retries(name: str, writes: Sequence[Topic], around: Surroundings) -> Retries:
    """writes: not placed."""
    topics = around.config.topics
    retry, dead = retry_topic(name).placed(topics), dead_letter_topic(name).placed(topics)
    bury = LoggedBurial(Burial(dead), around.logger.bind(stage=name))
    written = [retry, *(topic.placed(topics) for topic in writes)]
    return Retries(
        name, retry.name, bury, _policy(around.config), {topic.name: topic.max_message_bytes for topic in written}
    )


def _policy(config: PipelineConfig) -> RetryPolicy:
    own = config.runner
    return RetryPolicy(
        max_attempts=own.max_attempts,
        first_delay_s=own.first_delay_s,
        max_delay_s=own.max_delay_s,
        max_postponed=own.max_postponed,
    )


def _limits(config: PipelineConfig) -> RunnerLimits:
    own = config.runner
    return RunnerLimits(
        window_records=own.window_records,
        window_bytes=own.window_bytes,
        drain_s=own.drain_s,
        polling=PollingLimits(outage_s=own.outage_s),
        handling=HandlingLimits(own.concurrent, own.handle_timeout_s + CANCEL_S),
        committing=CommittingLimits(interval_s=own.commit_interval_s),
    )


def make_transport(config: PipelineConfig) -> KafkaTransport:
    return KafkaTransport(connection(config.kafka), TransportLimits(session_timeout_s=config.runner.session_timeout_s))
