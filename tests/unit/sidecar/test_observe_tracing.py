"""Spans as they are recorded: their ties, their attributes, and that no text is among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import StatusCode

from themis_judge.engines.base import (
    NO_DEADLINE,
    Deadline,
    EngineError,
    EngineInfo,
    Generation,
    Labels,
    LabelScores,
    Likelihood,
    Prompt,
    Sampling,
    Usage,
)
from themis_sidecar.calls import CallRecord
from themis_sidecar.observe.tracing import Tracing

CANARY = "canary-40bd"
USAGE = Usage(prompt_tokens=7, cached_tokens=3, completion_tokens=2, queued_s=0.5, computed_s=0.25)
PROMPT = Prompt(((1, 2),), text=CANARY)


class Engine:
    """Answers, or fails with an error that quotes the prompt."""

    info = EngineInfo("fake", "fake", 10)
    tokenizer = None
    failure = "broken"

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def load(self) -> None:
        self.calls.append("load")

    async def unload(self) -> None:
        self.calls.append("unload")

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        return LabelScores((-1.0,), USAGE)

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation:
        raise EngineError(f"can't go on after {prompt.text}")

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], deadline: Deadline = NO_DEADLINE
    ) -> Likelihood:
        return Likelihood((-1.0,), USAGE)


def recording(sampler: Sampler = ALWAYS_ON) -> tuple[Tracing, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider, "1.2.3"), exporter


def record() -> CallRecord:
    return CallRecord("Score", lambda _method, _version, _outcome: None)


async def ask_everything(tracing: Tracing) -> None:
    engine = tracing.engine(Engine())
    await engine.label_logprobs(PROMPT, Labels(("1",)))
    await engine.loglikelihood(PROMPT, (1,))
    with pytest.raises(EngineError):
        await engine.generate(PROMPT, Sampling(max_tokens=1))


async def test_questions_to_the_engine_are_spans_of_their_call() -> None:
    tracing, exporter = recording()
    with tracing.call("service", record(), ()):
        await ask_everything(tracing)
    spans: dict[str, ReadableSpan] = {span.name: span for span in exporter.get_finished_spans()}
    call = spans.pop("service/Score")
    assert set(spans) == {"engine/label_logprobs", "engine/loglikelihood", "engine/generate"}
    assert {span.parent.span_id for span in spans.values() if span.parent} == {call.context.span_id}
    assert spans["engine/label_logprobs"].attributes == {
        "themis.queued_s": 0.5,
        "themis.computed_s": 0.25,
        "themis.prompt_tokens": 7,
        "themis.cached_tokens": 3,
        "themis.completion_tokens": 2,
    }
    failed = spans["engine/generate"]
    assert failed.attributes == {"error.type": "EngineError"}
    assert failed.status.status_code is StatusCode.ERROR
    assert CANARY not in "".join(span.to_json() for span in exporter.get_finished_spans())


async def test_without_a_recorded_call_nothing_is_recorded() -> None:
    tracing, exporter = recording()
    await ask_everything(tracing)
    assert not exporter.get_finished_spans()
    unsampled, nothing = recording(ALWAYS_OFF)
    made = record()
    with unsampled.call("service", made, ()):
        await ask_everything(unsampled)
    assert not nothing.get_finished_spans()
    assert made.trace_id  # it is in the log all the same


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.OK, StatusCode.UNSET),
        (grpc.StatusCode.INVALID_ARGUMENT, StatusCode.UNSET),  # the caller's fault
        (grpc.StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNSET),
        (grpc.StatusCode.INTERNAL, StatusCode.ERROR),
        (grpc.StatusCode.UNAVAILABLE, StatusCode.ERROR),
    ],
)
def test_a_calls_span_fails_where_the_server_did(code: grpc.StatusCode, status: StatusCode) -> None:
    tracing, exporter = recording()

    def fail() -> None:
        made = record()
        with tracing.call("service", made, ()):
            made.code = code
            raise ValueError(CANARY)

    with pytest.raises(ValueError, match=CANARY):
        fail()
    [span] = exporter.get_finished_spans()
    assert span.status.status_code is status
    assert not span.events
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == code.value[0]
    assert CANARY not in span.to_json()


async def test_the_engine_behind_is_the_engine() -> None:
    own = Engine()
    tracing, _ = recording()
    engine = tracing.engine(own)
    await engine.load()
    await engine.unload()
    assert own.calls == ["load", "unload"]
    assert (engine.info, engine.tokenizer, engine.failure) == (own.info, None, "broken")
    assert Tracing(None, "1.2.3").engine(own) is own


def test_a_record_starts_empty() -> None:
    made = record()
    assert not made.failed
    assert dataclasses.replace(made, code=grpc.StatusCode.INTERNAL).failed
    assert not dataclasses.replace(made, code=grpc.StatusCode.CANCELLED).failed
