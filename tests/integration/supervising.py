"""A supervisor in a process of its own, as in production: `python -m tests.integration.supervising CODE LOG SETTINGS
INTERPRETER`.

It forks with work to do in the child, which a process full of gRPC's threads, like the tests' own, can't do safely.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from themis_sidecar.config import LogConfig, SupervisorConfig
from themis_sidecar.logs import make_logger
from themis_sidecar.ready import ReadyFile
from themis_sidecar.supervisor import Supervisor


def main() -> None:
    code, log, settings = sys.argv[1], Path(sys.argv[2]), SupervisorConfig(**json.loads(sys.argv[3]))
    with log.open("a", buffering=1) as stream:
        logger = make_logger(LogConfig(), stream)
        supervisor = Supervisor([sys.argv[4], "-c", code], settings, ReadyFile(None), logger)
        raise SystemExit(asyncio.run(supervisor.run()))


if __name__ == "__main__":
    main()
