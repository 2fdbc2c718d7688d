"""A stage's handler, which takes events and gives events, as the runner wants it: records in, records out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from themis_judge.engines.base import Deadline
from themis_pipeline.annotation.reading import TooManyLabels
from themis_pipeline.dead_letters import replays
from themis_pipeline.events import codec
from themis_pipeline.events.errors import Defect, TooLarge
from themis_pipeline.events.errors import Malformed as Unreadable
from themis_pipeline.kafka.seam import Output
from themis_pipeline.llm.errors import SameLineage
from themis_pipeline.runner.retries import OutputTooLarge
from themis_pipeline.runner.stage import Delivery, Malformed, Oversize, Reject, Retry
from themis_pipeline.running.logs import Logger
from themis_pipeline.running.patience import Patience
from themis_pipeline.running.routes import Route
from themis_pipeline.running.seam import Fatal
from themis_pipeline.stages.seam import Context, Handler
from themis_pipeline.topics.topic import Topic


@dataclass(frozen=True, slots=True)
class EventStage:
    """The runner's `Stage` around a handler. reads: what it reads, placed, its retries aside; by their origin these
    tell what a retried record holds. timeout_s: the deadline of one handling, waits for what is away
    included."""

    name: str
    handler: Handler[Any]
    reads: Mapping[str, Topic]
    route: Route
    timeout_s: float
    patience: Patience
    logger: Logger

    @property
    def topics(self) -> Sequence[str]:
        return list(self.reads)

    async def handle(self, delivery: Delivery) -> Sequence[Output]:
        origin = delivery.origin
        event = self._event(delivery)
        context = Context(
            origin.partition.topic,
            origin.partition.number,
            origin.offset,
            origin.written_at_ms,
            Deadline.after(self.timeout_s),
            replays.count(delivery.record.headers),
        )
        try:
            made = await self.patience.asked(lambda: self.handler.handle(event, context), context.deadline)
        except Retry as later:
            self._tell("debug", "postponed", delivery, code=later.code, after_s=round(later.after_s, 3))
            raise
        except Reject:
            raise
        except (SameLineage, TooManyLabels) as error:
            raise Fatal(str(error)) from error
        except Exception as error:
            self._tell("warning", "handling_failed", delivery, error=error)
            raise
        return [self._output(one) for one in made]

    def _event(self, delivery: Delivery) -> Message:
        """Raises Malformed, Oversize."""
        topic = self.reads.get(delivery.origin.partition.topic)
        if topic is None:
            raise Malformed("ForeignOrigin", "it comes from a topic that this stage doesn't read")
        try:
            return codec.decode(delivery.record, topic.events, topic.max_event_bytes, topic.json_as)
        except Unreadable as error:
            kind = Oversize if error.defect is Defect.OVERSIZE else Malformed
            raise kind(error.defect.value, str(error)) from error

    def _output(self, event: Message) -> Output:
        """Raises Reject: another try would make the same; and Fatal for what no stage may do."""
        try:
            topic = self.route(event)
        except LookupError as error:
            raise Fatal(f"its handler made a {event.DESCRIPTOR.name}, which it doesn't write") from error
        try:
            key = topic.key_of(event)
        except ValueError as error:
            raise Reject("output_without_key", str(error)) from error
        try:
            value, headers = codec.encode(event, topic.max_event_bytes)
        except TooLarge as error:
            raise OutputTooLarge("OutputTooLarge", f"{error} ({topic.name})") from error
        return Output(topic.name, key, value, headers)

    def _tell(self, level: str, event: str, delivery: Delivery, **more: object) -> None:
        origin = delivery.origin
        getattr(self.logger, level)(
            event,
            topic=origin.partition.topic,
            partition=origin.partition.number,
            offset=origin.offset,
            failures=delivery.failures,
            postponed=delivery.postponed,
            **more,
        )
