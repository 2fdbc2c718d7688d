"""`themis-pipeline run STAGE...`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager

from themis_pipeline.config import KafkaConfig, add_settings
from themis_pipeline.topics import STAGES
from themis_pipeline.topics.laying import Cluster

CODES = (
    "Exit codes: 0 stopped as it was told to, with what was in hand finished or left to others; 2 wrong usage or "
    "settings, or topics are missing; 3 no broker, or none for too long; 4 a stage failed, and the others were "
    "stopped; 70 something took longer than it may, and the process ended as it was; 128 and a signal's number: a "
    "second signal came while it stopped. What was not committed is done again by whoever comes next."
)


class RunCommand:
    """`open_cluster` looks at topics."""

    def __init__(
        self,
        open_cluster: Callable[[KafkaConfig], AbstractContextManager[Cluster]],
        complain: Callable[[str], None],
    ) -> None:
        self._open_cluster = open_cluster
        self._complain = complain

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        parser.description = "Runs stages until it is told to stop by SIGTERM or SIGINT."
        parser.epilog = CODES
        parser.add_argument("names", nargs="+", metavar="STAGE", help=f"{', '.join(STAGES)}; or all")
        read = add_settings(parser)

        def run(args: argparse.Namespace) -> int:
            # Loads what stages take, gRPC and a language model among it, when stages are wanted alone.
            from themis_pipeline.running.launching import launch

            return launch(read(args), args.names, self._open_cluster, self._complain)

        parser.set_defaults(run=run)
