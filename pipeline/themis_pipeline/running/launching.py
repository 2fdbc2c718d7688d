"""From the command line to running stages, and from what ended them to an exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from themis_pipeline.config import KafkaConfig, PipelineConfig
from themis_pipeline.exits import BAD_INPUT, FAILED, NO_BROKER, OK
from themis_pipeline.kafka.seam import TransportError
from themis_pipeline.runner.committer import CommitsFail
from themis_pipeline.runner.polling import Outage
from themis_pipeline.running.instances import NoInstance, claimed
from themis_pipeline.running.logs import Logger, libraries_lines_to, make_logger
from themis_pipeline.running.process import CantStart, run_stages
from themis_pipeline.running.registry import ALL, KINDS, NAMES
from themis_pipeline.running.seam import Broken, Fatal, StageEnded, StageFailed
from themis_pipeline.running.starting import TopicsMissing, check_topics, topics_of
from themis_pipeline.topics.laying import Cluster

OpenCluster = Callable[[KafkaConfig], AbstractContextManager[Cluster]]

_BROKERS = (CommitsFail, Outage, TransportError)
_SAID = (*_BROKERS, Broken, Fatal, StageEnded)
"""Whose texts hold nothing of a record."""


class UnknownStages(Exception):
    """The text names those that there are."""


def launch(
    config: PipelineConfig, asked: Sequence[str], open_cluster: OpenCluster, complain: Callable[[str], None]
) -> int:
    """Runs the stages until they end; gives the exit code. Raises BrokerError, and SettingsError for topics."""
    logger = make_logger(config.log, sys.stderr)
    try:
        with libraries_lines_to(logger):
            names = chosen(asked)
            _check(config, names, open_cluster, logger)
            with claimed(config.runner.instance, config.topics.prefix) as instance:
                asyncio.run(run_stages(config, names, instance, logger))
    except (UnknownStages, TopicsMissing, NoInstance, CantStart) as error:
        complain(str(error))
        return BAD_INPUT
    except StageFailed as failed:
        cause = failed.error
        complain(f"{failed.stage}: {cause if isinstance(cause, _SAID) else type(cause).__name__}{_hint(cause)}")
        return NO_BROKER if isinstance(cause, _BROKERS) else FAILED
    return OK


def _hint(cause: BaseException) -> str:
    fenced = isinstance(cause, _BROKERS) and "Fenced" in str(cause)
    return "; another process may run with the same runner.instance" if fenced else ""


def chosen(asked: Sequence[str]) -> list[str]:
    """Stages by their names, each once, in the table's order. Raises UnknownStages."""
    unknown = [name for name in dict.fromkeys(asked) if name not in NAMES and name != ALL]
    if unknown:
        raise UnknownStages(f"no stage is called {', '.join(unknown)}; there are {', '.join(NAMES)}, and {ALL}")
    return [name for name in NAMES if name in asked or ALL in asked]


def _check(config: PipelineConfig, names: Sequence[str], open_cluster: OpenCluster, logger: Logger) -> None:
    topics = [topic for name in names for topic in topics_of(name, KINDS.get(name), config.topics)]
    with open_cluster(config.kafka) as cluster:
        for difference in check_topics(cluster, topics, names, config.topics.prefix):
            logger.warning("topic_differs", topic=difference.topic, what=str(difference))
