"""Records and events for tests of the pipeline's events."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from themis_pipeline.events.codec import Headers
from themis_proto.v1 import events_pb2, judge_pb2

ROOMY_BYTES = 1_000_000

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@dataclass(frozen=True, slots=True)
class Record:
    value: bytes | None
    headers: Headers = ()


@st.composite
def prompts(draw: st.DrawFn) -> events_pb2.NewPrompt:
    turns = draw(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), texts), max_size=3))
    return events_pb2.NewPrompt(
        id=draw(texts),
        source=draw(texts),
        messages=[judge_pb2.Message(role=role, parts=[judge_pb2.Part(text=text)]) for role, text in turns],
        text=draw(texts),
        scenario=draw(texts),
        reference=draw(st.none() | texts),
    )
