"""An engine behind a tracer offers all that it offers without."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.unit.sidecar.test_observe_tracing import PROMPT
from tests.unit.sidecar.test_observe_tracing import Engine as FakeEngine
from themis_judge.engines.base import Engine, Labels
from themis_sidecar.observe.tracing import Tracing

OFFERED = ("adapted", "background", "reset_prefix_cache")


class ManifoldEngine(FakeEngine):
    """With what engines may offer beside."""

    def __init__(self) -> None:
        super().__init__()
        self.resets = 0

    def adapted(self, name: str, folder: Path, digest: str) -> Engine:
        assert (name, folder, digest) == ("one", Path("/adapter"), "d1")
        return FakeEngine()

    def background(self) -> Engine:
        return FakeEngine()

    async def reset_prefix_cache(self) -> None:
        self.resets += 1


async def test_what_an_engine_offers_beside_is_offered_and_traced() -> None:
    provider, spans = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracing, engine = Tracing(provider, "1.2.3"), ManifoldEngine()
    traced = tracing.engine(engine)
    adapted, background, reset = (getattr(traced, name) for name in OFFERED)
    made = [adapted("one", Path("/adapter"), "d1"), background()]
    with provider.get_tracer("a test").start_as_current_span("call"):
        for one in made:
            await one.label_logprobs(PROMPT, Labels(("1",)))
    assert [span.name for span in spans.get_finished_spans()] == ["engine/label_logprobs"] * 2 + ["call"]
    await reset()
    assert engine.resets == 1


async def test_what_it_does_not_offer_is_not_there() -> None:
    traced = Tracing(TracerProvider(), "1.2.3").engine(FakeEngine())
    assert not [name for name in OFFERED if hasattr(traced, name)]
