"""A handler as the runner wants it: what it is given of a record, and what becomes of what it makes."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from themis_judge.engines.base import Deadline
from themis_pipeline.config import LogConfig, TopicsConfig
from themis_pipeline.events.codec import encode
from themis_pipeline.kafka.seam import Partition, Record
from themis_pipeline.llm.errors import SameLineage
from themis_pipeline.runner.retries import OutputTooLarge
from themis_pipeline.runner.stage import Delivery, Malformed, Origin, Oversize, Reject, Retry
from themis_pipeline.running import routes
from themis_pipeline.running.adapter import EventStage
from themis_pipeline.running.logs import make_logger
from themis_pipeline.running.patience import Patience
from themis_pipeline.running.seam import Fatal
from themis_pipeline.stages.seam import Context
from themis_pipeline.topics import (
    CLASSIFIED_PROMPTS,
    INSTRUCTIONS,
    NEW_PROMPTS,
    QUESTION_PLANS,
    QUIZ_PLANS,
    REFERENCE_TEXTS,
    Topic,
)
from themis_proto.v1 import events_pb2 as ev

TOPICS = TopicsConfig(prefix="mine-")
NEW, CLASSIFIED, MADE = (topic.placed(TOPICS) for topic in (NEW_PROMPTS, CLASSIFIED_PROMPTS, INSTRUCTIONS))
PROMPT = ev.NewPrompt(id="p1", source="tests", text="A secret question?")


@dataclass
class Told:
    """A handler that does as it is told, and keeps what it was given."""

    does: Callable[[Any], Sequence[Message]]
    seen: list[tuple[Message, Context]] = field(default_factory=list)

    async def handle(self, event: Message, context: Context) -> Sequence[Message]:
        self.seen.append((event, context))
        return self.does(event)


def nothing(_: Message) -> Sequence[Message]:
    return []


def raises(error: BaseException) -> Callable[[Message], Sequence[Message]]:
    def does(_: Message) -> Sequence[Message]:
        raise error

    return does


def stage(handler: Told, log: io.StringIO | None = None, read: Topic = NEW) -> EventStage:
    logger = make_logger(LogConfig(level="debug"), log or io.StringIO())
    route = routes.by_event({ev.ClassifiedPrompt: CLASSIFIED, ev.Instruction: MADE})
    return EventStage("mine-classify", handler, {read.name: read}, route, 60.0, Patience(least_s=0.01), logger)


def delivery(
    value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), topic: str = NEW.name, **more: int
) -> Delivery:
    """As it comes back from a retry topic: only its origin tells where it was first."""
    record = Record(Partition("mine-classify-retry", 0), 3, b"key", value, tuple(headers), written_at_ms=9)
    return Delivery(record, Origin(Partition(topic, 5), 77, 1_700_000_000_123), **more)


def written(event: Message) -> Delivery:
    value, headers = encode(event, NEW.max_event_bytes)
    return delivery(value, headers)


async def test_an_event_comes_with_its_first_place_and_a_deadline() -> None:
    handler = Told(nothing)
    assert await stage(handler).handle(written(PROMPT)) == []
    [(event, context)] = handler.seen
    assert event == PROMPT
    assert (context.topic, context.partition, context.offset) == (NEW.name, 5, 77)
    assert context.at.ToMilliseconds() == 1_700_000_000_123
    assert 0 < context.deadline.remaining_s() <= 60


async def test_people_write_json_and_stages_do_not() -> None:
    value = json.dumps({"source": "tests", "text": "Hello?"}).encode()
    handler = Told(nothing)
    await stage(handler).handle(delivery(value))
    assert handler.seen[0][0] == ev.NewPrompt(source="tests", text="Hello?")
    with pytest.raises(Malformed) as refused:
        await stage(handler, read=CLASSIFIED).handle(delivery(value, topic=CLASSIFIED.name))
    assert refused.value.code == "headers"


async def test_what_it_makes_goes_to_its_topic_under_its_key() -> None:
    made = [ev.Instruction(id="i1", made_from="plan-1"), ev.ClassifiedPrompt(id="c1")]
    first, second = await stage(Told(lambda _: made)).handle(written(PROMPT))
    assert (first.topic, first.key) == ("mine-instructions", b"plan-1")
    assert (second.topic, second.key) == ("mine-classified-prompts", b"c1")
    assert ev.Instruction.FromString(first.value) == made[0]
    assert dict(first.headers) == {"themis-message": b"Instruction", "themis-version": b"1"}


async def test_what_it_makes_has_to_fit_its_topic() -> None:
    small = replace(MADE, max_event_bytes=100)
    route = routes.by_event({ev.Instruction: small})
    long = ev.Instruction(id="i1", made_from="plan-1", reference="x" * 100)
    with pytest.raises(OutputTooLarge) as refused:
        await replace(stage(Told(lambda _: [long])), route=route).handle(written(PROMPT))
    assert "mine-instructions" in refused.value.detail
    assert "xxx" not in refused.value.detail


async def test_what_has_no_key_is_refused_and_what_has_no_topic_ends_the_process() -> None:
    with pytest.raises(Reject, match="made_from"):
        await stage(Told(lambda _: [ev.Instruction(id="i1")])).handle(written(PROMPT))
    with pytest.raises(Fatal, match="Labelled"):
        await stage(Told(lambda _: [ev.Labelled(id="l1")])).handle(written(PROMPT))


async def test_a_record_from_elsewhere_or_too_large_is_no_event() -> None:
    handler = Told(nothing)
    with pytest.raises(Malformed, match="ForeignOrigin"):
        await stage(handler).handle(delivery(b"{}", topic="another-topic"))
    with pytest.raises(Oversize) as refused:
        await stage(handler).handle(delivery(b"x" * (NEW.max_event_bytes + 1)))
    assert refused.value.code == "oversize"
    assert not handler.seen


@pytest.mark.parametrize("error", [Retry(90.0, "RateLimited"), Reject("scenario", "unknown"), ValueError("a secret")])
async def test_what_a_handler_says_of_a_record_reaches_the_runner(error: Exception) -> None:
    log = io.StringIO()
    made = stage(Told(raises(error)), log)
    made.patience.end()
    with pytest.raises(type(error)) as seen:
        await made.handle(written(PROMPT))
    assert seen.value is error
    assert "secret" not in log.getvalue()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    events = {"Retry": ["postponed"], "Reject": [], "ValueError": ["handling_failed"]}
    assert [line["event"] for line in lines] == events[type(error).__name__]
    assert all((line["topic"], line["partition"], line["offset"]) == (NEW.name, 5, 77) for line in lines)


async def test_what_is_away_for_a_moment_is_waited_for_in_place() -> None:
    """The record keeps its place in the window, which holds up the reading."""
    errors = [Retry(0.0), Retry(0.02)]

    def does(_: Message) -> Sequence[Message]:
        if errors:
            raise errors.pop(0)
        return []

    handler = Told(does)
    assert await stage(handler).handle(written(PROMPT)) == []
    assert len(handler.seen) == 3
    assert len({context.deadline for _, context in handler.seen}) == 1


async def test_what_is_away_beyond_the_deadline_holds_up_the_reading_until_then() -> None:
    """Put off at once, a backlog would go round through the retry topic."""
    deadline = Deadline.after(0.2)

    async def ask() -> None:
        raise Retry(300.0, "BudgetSpent")

    with pytest.raises(Retry):
        await Patience(rest_s=0.0).asked(ask, deadline)
    assert deadline.remaining_s() < 0.05


async def test_a_process_that_stops_waits_for_nothing() -> None:
    handler = Told(raises(Retry(30.0, "Unavailable")))
    made = stage(handler)
    task = asyncio.create_task(made.handle(written(PROMPT)))
    await asyncio.sleep(0)
    assert not task.done()
    made.patience.end()
    with pytest.raises(Retry):
        await asyncio.wait_for(task, 10)
    assert len(handler.seen) == 1


async def test_a_teacher_of_the_judges_lineage_ends_the_process() -> None:
    """Not one record after the other: none could be labelled."""
    with pytest.raises(Fatal, match="descends"):
        await stage(Told(raises(SameLineage("the judge descends from it")))).handle(written(PROMPT))


async def test_plans_of_each_kind_have_a_topic() -> None:
    route = routes.plans(TOPICS)
    question, quiz = ev.Plan(id="a"), ev.Plan(id="b")
    question.question.SetInParent()
    quiz.quiz.SetInParent()
    assert [route(one).name for one in (question, quiz)] == ["mine-question-plans", "mine-quiz-plans"]
    with pytest.raises(LookupError):
        route(ev.Plan(id="c"))
    assert {QUESTION_PLANS.stage, QUIZ_PLANS.stage} == {"question", "quiz"}


@settings(deadline=None, max_examples=200)
@given(
    value=st.binary(max_size=300),
    headers=st.lists(
        st.tuples(st.sampled_from(["themis-message", "themis-version", "other"]), st.binary(max_size=12)), max_size=4
    ),
    topic=st.sampled_from([NEW.name, REFERENCE_TEXTS.placed(TOPICS).name]),
)
async def test_no_bytes_are_more_than_an_event_or_a_reject(
    value: bytes, headers: list[tuple[str, bytes]], topic: str
) -> None:
    """A record that can't be read is given up at once: it is no failure that is tried again."""
    handler = Told(nothing)
    try:
        await stage(handler).handle(delivery(value, headers, topic))
    except Malformed:
        assert not handler.seen
    else:
        assert isinstance(handler.seen[0][0], ev.NewPrompt)
