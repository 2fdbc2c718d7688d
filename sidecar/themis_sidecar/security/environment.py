"""What must not stand in the environment of a server that handles secrets."""

from __future__ import annotations

from collections.abc import Mapping

from themis_sidecar.config import ServerConfig
from themis_sidecar.security.errors import SecurityError

TRACE = "GRPC_TRACE"


def check_environment(environment: Mapping[str, str], config: ServerConfig) -> None:
    """gRPC's own tracing writes headers, tokens among them, and messages to standard error. Its core reads the
    variable when it is imported, so that it can't be taken back here. Raises SecurityError."""
    may_write = config.log.log_text and config.security.callers_file is None
    if environment.get(TRACE) and not may_write:
        raise SecurityError(
            f"{TRACE} is set: gRPC would write tokens and texts to standard error; unset it "
            "(to trace without tokens, set log.log_text and no security.callers_file)"
        )
