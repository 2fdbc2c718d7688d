"""How the table of topics is laid out on a cluster."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, PositiveInt, model_validator

from themis_pipeline.config.section import Section


class TopicsConfig(Section):
    """The topics; their table is fixed but for this."""

    prefix: str = Field(default="themis-", pattern=r"^[A-Za-z0-9._-]{0,100}$")
    """What the names of topics, groups and transactional ids begin with; one for each pipeline on a cluster."""
    replication: PositiveInt = 3
    """Copies of each partition."""
    min_isr: PositiveInt = 2
    """Copies that have to have a record before it counts as written."""
    partitions: Mapping[str, PositiveInt] = Field(default_factory=dict)
    """Partitions by topic, named without the prefix, where the table's don't fit. Chosen once: they never grow."""

    @model_validator(mode="after")
    def _can_be_written(self) -> TopicsConfig:
        if self.min_isr > self.replication:
            raise ValueError("min_isr: more copies than there are; lower it or raise replication")
        return self
