"""`themis-pipeline topics create|check`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager

from themis_pipeline.config import KafkaConfig, PipelineConfig, add_settings
from themis_pipeline.exits import DIFFERENT, OK
from themis_pipeline.topics import laying
from themis_pipeline.topics.table import STAGES, TABLE, placed_table

OpenCluster = Callable[[KafkaConfig], AbstractContextManager[laying.Cluster]]
Say = Callable[[str], None]

CREATE = "make the topics that are missing, and let each stage begin at their start; what exists is never changed"
CHECK = "say where the cluster differs from the table; exits with 1 where it does"
FROM = "a stage that handles all records of its topics where it has no offset there; may be given more than once"


class TopicsCommand:
    def __init__(self, open_cluster: OpenCluster, say: Say) -> None:
        self._open = open_cluster
        self._say = say

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(metavar="ACTION", required=True)
        create = self._action(actions, "create", CREATE, self._create)
        create.add_argument("--from-start", action="append", choices=STAGES, default=[], metavar="STAGE", help=FROM)
        self._action(actions, "check", CHECK, self._check)

    def _action(
        self,
        actions: argparse._SubParsersAction[argparse.ArgumentParser],
        name: str,
        told: str,
        run: Callable[[argparse.Namespace, PipelineConfig], int],
    ) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=told, description=told, allow_abbrev=False)
        read = add_settings(parser)
        parser.set_defaults(run=lambda args: run(args, read(args)))
        return parser

    def _create(self, args: argparse.Namespace, config: PipelineConfig) -> int:
        topics = placed_table(config.topics)
        with self._open(config.kafka) as cluster:
            laying.create(cluster, topics, config.topics.prefix, self._say, args.from_start)
            return self._tell(laying.check(cluster, topics, config.topics.prefix))

    def _check(self, _: argparse.Namespace, config: PipelineConfig) -> int:
        topics = placed_table(config.topics)
        with self._open(config.kafka) as cluster:
            return self._tell(laying.check(cluster, topics, config.topics.prefix))

    def _tell(self, differences: list[laying.Difference]) -> int:
        for difference in differences:
            self._say(str(difference))
        if not differences:
            self._say(f"{len(TABLE)} topics are as the table says")
        return DIFFERENT if differences else OK
