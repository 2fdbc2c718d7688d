"""`themis-sidecar --supervise` around the server of sidecar_process.py."""

from __future__ import annotations

import sys

from tests.integration.sidecar_running import FAKE
from themis_sidecar.__main__ import supervise
from themis_sidecar.config import read_command_line

if __name__ == "__main__":
    arguments = sys.argv[1:]
    command = [sys.executable, "-m", FAKE, *arguments]
    raise SystemExit(supervise(command, read_command_line(arguments)))
