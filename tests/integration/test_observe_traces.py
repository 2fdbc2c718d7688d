"""One trace from the caller's span to the engine's, over real processes, to a collector that speaks OTLP."""

from __future__ import annotations

import asyncio
import json
import queue
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from tests.integration.observe_serving import at, parsed
from tests.integration.sidecar_fakes import FakeJudge, item, serving
from tests.integration.test_end_to_end import Sidecar, sidecar
from tests.integration.test_sidecar_process import process, stub_of
from themis_client import AsyncClient, Client, Comparison, Item, Score
from themis_proto.v1 import judge_pb2 as pb

CANARY = "canary-e7a2"
ARRIVES_S = 60.0
CALLER = TracerProvider(shutdown_on_exit=False).get_tracer("caller")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Collector(otlp_grpc.TraceServiceServicer):
    """Takes spans as any OpenTelemetry collector does."""

    address: str = ""
    requests: queue.SimpleQueue[otlp.ExportTraceServiceRequest] = field(default_factory=queue.SimpleQueue)
    seen: list[Span] = field(default_factory=list)

    def Export(self, request: otlp.ExportTraceServiceRequest, context: Any) -> otlp.ExportTraceServiceResponse:
        self.requests.put(request)
        return otlp.ExportTraceServiceResponse()

    def of(self, trace_id: int, *names: str) -> dict[str, Span]:
        """The trace's spans by name, as soon as all `names` have come."""
        while True:
            found = {span.name: span for span in self.seen if span.trace_id == trace_id.to_bytes(16, "big")}
            if set(names) <= set(found):
                return found
            for resource in self.requests.get(timeout=ARRIVES_S).resource_spans:
                self.seen += [span for scope in resource.scope_spans for span in scope.spans]


@contextmanager
def collecting() -> Iterator[Collector]:
    server = grpc.server(ThreadPoolExecutor(2))
    port = server.add_insecure_port("127.0.0.1:0")
    collector = Collector(f"http://127.0.0.1:{port}")
    otlp_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(small_model: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    flags = ("--tracing.otlp_endpoint", collector.address, "--http.port", "0")
    with sidecar(small_model, tmp_path_factory.mktemp("traced"), *flags) as running:
        yield running


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "") for one in span.attributes}


def test_one_trace_from_the_blocking_client_to_the_engine(traced: Sidecar, collector: Collector) -> None:
    with CALLER.start_as_current_span("reward") as mine, Client(traced.address) as client:
        [result] = client.score([Item(CANARY, f"{CANARY} indeed", scenario="math")])
    assert isinstance(result, Score)
    own = mine.get_span_context()
    call_name = "themis.v1.JudgeService/Score"
    spans = collector.of(own.trace_id, call_name, "engine/label_logprobs")
    call, engine = spans[call_name], spans["engine/label_logprobs"]
    assert call.parent_span_id == own.span_id.to_bytes(8, "big")
    assert engine.parent_span_id == call.span_id
    assert call.kind == Span.SPAN_KIND_SERVER
    assert call.start_time_unix_nano <= engine.start_time_unix_nano
    assert engine.end_time_unix_nano <= call.end_time_unix_nano
    assert attributes(call) == {
        "rpc.system": "grpc",
        "rpc.service": "themis.v1.JudgeService",
        "rpc.method": "Score",
        "rpc.grpc.status_code": 0,
        "themis.version": result.version,
        "themis.items": 1,
        "themis.items_ok": 1,
    }
    told = attributes(engine)
    assert told["themis.queued_s"] == pytest.approx(result.timings.queued_s)
    assert told["themis.computed_s"] == pytest.approx(result.timings.computed_s)
    assert told["themis.prompt_tokens"] == result.tokens.prompt
    # Pinning the version asked for it first, in the same trace.
    assert set(spans) == {"themis.v1.JudgeService/Describe", call_name, "engine/label_logprobs"}
    assert CANARY not in "".join(map(str, spans.values()))
    lines = [json.loads(line) for line in traced.log.read_text().splitlines()]
    scored = [line["trace_id"] for line in lines if line["event"] == "call" and line["method"] == "Score"]
    assert f"{own.trace_id:032x}" in scored


def test_the_engines_batches_are_counted(traced: Sidecar) -> None:
    lines = [json.loads(line) for line in traced.log.read_text().splitlines()]
    [port] = [line["address"] for line in lines if line["event"] == "http"]

    def batches() -> float:
        samples = parsed(httpx.get(f"http://{port}/metrics").text)
        tokens = at(samples, "themis_engine_batch_tokens_sum")
        assert tokens <= sum(value for (name, _), value in samples.items() if name == "themis_prompt_tokens_total")
        return at(samples, "themis_engine_batch_items_count")

    before = batches()
    with Client(traced.address) as client:
        client.score([Item("How many batches?", "One.", scenario="math")])
    give_up_at = time.monotonic() + ARRIVES_S
    while batches() == before:  # the engine's thread counts after it has answered
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    assert batches() == before + 1


async def test_one_trace_through_the_asynchronous_client_and_a_stream(traced: Sidecar, collector: Collector) -> None:
    async with AsyncClient(traced.address) as client:
        await client.describe()
        with CALLER.start_as_current_span("stream") as streaming:
            items = [Item(f"What is {n}?", "A number.", scenario="math") for n in range(3)]
            assert len([one async for one in client.stream(items)]) == 3
        with CALLER.start_as_current_span("compare") as comparing:
            await client.compare([Comparison("What is two?", "2", "3", scenario="math")])
    stream = collector.of(
        streaming.get_span_context().trace_id, "themis.v1.JudgeService/StreamScores", "engine/label_logprobs"
    )
    assert attributes(stream["themis.v1.JudgeService/StreamScores"])["themis.items"] == 3
    assert stream["engine/label_logprobs"].parent_span_id == stream["themis.v1.JudgeService/StreamScores"].span_id
    collector.of(comparing.get_span_context().trace_id, "themis.v1.JudgeService/Compare", "engine/label_logprobs")


def test_a_caller_that_does_not_record_its_trace_is_not_recorded_here(traced: Sidecar, collector: Collector) -> None:
    quiet = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("quiet")
    with Client(traced.address) as client:
        with quiet.start_as_current_span("quiet") as unrecorded:
            client.score([Item("Unrecorded?", "Yes.", scenario="math")])
        with CALLER.start_as_current_span("loud") as recorded:  # after it, so that its spans come after it
            client.score([Item("Recorded?", "Yes.", scenario="math")])
    collector.of(recorded.get_span_context().trace_id, "themis.v1.JudgeService/Score", "engine/label_logprobs")
    quiet_id = unrecorded.get_span_context().trace_id.to_bytes(16, "big")
    assert not [span for span in collector.seen if span.trace_id == quiet_id]


async def test_the_log_names_the_callers_trace_although_nothing_is_recorded() -> None:
    async with serving(FakeJudge()) as served:
        call: Any = served.stub.Score
        await call(pb.ScoreRequest(items=[item()]), metadata=(("traceparent", PARENT),))
        await call(pb.ScoreRequest(items=[item()]), metadata=(("traceparent", "nonsense"),))
        await call(pb.ScoreRequest(items=[item()]))
    traces = [line.get("trace_id") for line in served.lines("call")]
    assert traces == ["0af7651916cd43dd8448eb211c80319c", None, None]


async def test_last_spans_are_sent_before_the_process_ends() -> None:
    with collecting() as collector:
        async with process("--tracing.otlp_endpoint", collector.address) as server:
            address = (await server.event("serving"))["address"]
            async with grpc.aio.insecure_channel(address) as channel:
                await stub_of(channel).Score(pb.ScoreRequest(items=[item()]), metadata=(("traceparent", PARENT),))
            server.send(signal.SIGTERM)
            assert await server.process.wait() == 0
        found = await asyncio.to_thread(collector.of, int(PARENT.split("-")[1], 16), "themis.v1.JudgeService/Score")
    assert found["themis.v1.JudgeService/Score"].parent_span_id.hex() == PARENT.split("-")[2]


async def test_a_collector_that_is_away_costs_no_call_and_holds_up_no_end() -> None:
    async with process("--tracing.otlp_endpoint", "http://127.0.0.1:9") as server:
        address = (await server.event("serving"))["address"]
        async with grpc.aio.insecure_channel(address) as channel:
            stub = stub_of(channel)
            answer = await stub.Score(pb.ScoreRequest(items=[item()]))
            assert answer.results[0].status == pb.ITEM_STATUS_OK
            stopped = asyncio.create_task(server.event("stopped"))  # reads the log: unread, it would fill its pipe
            for _ in range(8):
                await asyncio.gather(*(stub.Describe(pb.DescribeRequest()) for _ in range(200)))
        server.send(signal.SIGTERM)
        await stopped
        # Each of the four batches that 1,600 spans make is tried for 10 s, and the SDK waits 30 s for them.
        assert await asyncio.wait_for(server.process.wait(), 20) == 0
