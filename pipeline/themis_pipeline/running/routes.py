"""Which topic each event of a stage goes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from google.protobuf.message import Message

from themis_pipeline.config import TopicsConfig
from themis_pipeline.topics import QUESTION_PLANS, QUIZ_PLANS, Topic
from themis_proto.v1 import events_pb2 as ev

Route: TypeAlias = Callable[[Message], Topic]
"""An event's topic, placed. Raises LookupError for what the stage doesn't write."""


def by_event(topics: Mapping[type[Message], Topic]) -> Route:
    """topics: placed."""
    return lambda event: topics[type(event)]


def plans(config: TopicsConfig) -> Route:
    """Plans of each kind have a topic of their own, since a stage of their own reads them."""
    kinds = {"question": QUESTION_PLANS.placed(config), "quiz": QUIZ_PLANS.placed(config)}

    def route(event: Message) -> Topic:
        return kinds[(event.WhichOneof("kind") or "") if isinstance(event, ev.Plan) else ""]

    return route
