"""What is said of a stage: what it needs, what it writes, and what makes its handler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from themis_pipeline.config import TopicsConfig
from themis_pipeline.running import routes
from themis_pipeline.running.parts import Need, Parts
from themis_pipeline.running.routes import Route
from themis_pipeline.stages.seam import Handler
from themis_pipeline.topics import Topic


@dataclass(frozen=True, slots=True)
class Kind:
    """writes, looks_at: not placed; the latter beside what the stage's group reads."""

    handler: Callable[[Parts], Handler[Any]]
    writes: tuple[Topic, ...]
    needs: frozenset[Need] = frozenset()
    looks_at: tuple[Topic, ...] = ()
    routed: Callable[[TopicsConfig], Route] | None = None
    """Where an event's type doesn't tell its topic."""

    def route(self, config: TopicsConfig) -> Route:
        if self.routed is not None:
            return self.routed(config)
        return routes.by_event({event: topic.placed(config) for topic in self.writes for event in topic.events})
