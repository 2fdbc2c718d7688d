"""The caller's trace as it goes out with calls, and what happens where there is none."""

from __future__ import annotations

import subprocess
import sys
import threading

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, use_span

from themis_client import tracing
from themis_client.loop import PROCESS_LOOP


def span(state: TraceState | None = None, sampled: bool = True) -> NonRecordingSpan:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=flags, trace_state=state))


def test_the_active_span_goes_out() -> None:
    parent = "00-00000000000000000000000000000abc-0000000000000def"
    with use_span(span()):
        assert tracing.headers() == (("traceparent", f"{parent}-01"),)
    with use_span(span(sampled=False)):
        assert tracing.headers() == (("traceparent", f"{parent}-00"),)
    with use_span(span(TraceState([("vendor", "1")]))):
        assert tracing.headers() == (("traceparent", f"{parent}-01"), ("tracestate", "vendor=1"))
    assert tracing.headers() == ()


def test_it_reaches_the_thread_that_makes_the_calls() -> None:
    async def there() -> tuple[tuple[tuple[str, str], ...], int]:
        return tracing.headers(), threading.get_ident()

    with TracerProvider(shutdown_on_exit=False).get_tracer("caller").start_as_current_span("mine"):
        mine = tracing.headers()
        found, thread = PROCESS_LOOP.submit(there).result(30)
    assert mine
    assert found == mine
    assert thread != threading.get_ident()
    assert PROCESS_LOOP.submit(there).result(30)[0] == ()


def test_opentelemetry_is_not_imported_for_it() -> None:
    script = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from themis_client import tracing\n"
        "assert tracing.headers() == ()\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-S", "-c", script], check=True)
