"""What must not stand in the environment of a server that handles secrets."""

from __future__ import annotations

from collections.abc import MutableMapping

from themis_sidecar.logs import Logger

TRACES = ("GRPC_TRACE", "GRPC_VERBOSITY")
"""gRPC's own tracing writes headers, tokens among them, and messages to standard error."""


def silence_traces(environment: MutableMapping[str, str], logger: Logger) -> None:
    """Before gRPC's core starts, which reads them once."""
    found = [name for name in TRACES if environment.pop(name, None)]
    if found:
        logger.warning("traces_off", variables=found, problem="they would write tokens and texts")
