"""Carries the caller's trace to the server, as W3C trace context. Needs no OpenTelemetry: without it, or without an
active span, there is nothing to carry."""

from __future__ import annotations

import sys
from typing import Any


def headers() -> tuple[tuple[str, str], ...]:
    """Metadata for a call that is made now; empty where no span is active."""
    # Whoever has an active span has imported the module; importing it here would cost everybody else.
    get_current_span: Any = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if get_current_span is None:
        return ()
    span = get_current_span().get_span_context()
    if not span.is_valid:
        return ()
    found = (("traceparent", f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"),)
    state = span.trace_state.to_header()
    return (*found, ("tracestate", state)) if state else found
