"""How stages run: how much at a time, how often again, and what is seen of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from themis_pipeline.config.section import Section

COMMANDS = ("import", "replay")
"""Instances by whose names commands send: people's labels, and dead letters again."""


class RunnerConfig(Section):
    """Of every stage that runs."""

    instance: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """What no two processes of a stage share and each keeps over its restarts: its transactions go by this name, and a
    successor of another name waits for what a dead process left open. Default: the machine's name and the lowest
    number that no other process on it holds, by a lock in its folder for temporary files: containers that share a name
    and not that folder need names of their own."""
    window_records: PositiveInt = 64
    """Records of one partition in hand at a time."""
    window_bytes: PositiveInt = 32 * 1024**2
    """The same in bytes, outputs that wait included."""
    concurrent: PositiveInt = 256
    """Records of a stage that are handled at a time, over all its partitions."""
    handle_timeout_s: PositiveFloat = 300.0
    """The deadline of one handling of one record, all its calls included, and waits for what is away."""
    max_attempts: PositiveInt = 5
    """How often a record may fail before it becomes a dead letter."""
    first_delay_s: PositiveFloat = 2.0
    """Before a record that failed is handled again; four times as long after each further failure."""
    max_delay_s: PositiveFloat = 600.0
    """The longest of these delays."""
    max_postponed: PositiveInt = 30
    """How often a record may be put off because an endpoint or the sidecar is away, each time after it waited for that
    until its deadline; then it becomes a dead letter."""
    commit_interval_s: PositiveFloat = 0.2
    """The longest that something finished waits for its transaction."""
    session_timeout_s: PositiveFloat = 15.0
    """A process that is not heard of for so long has lost its partitions; brokers have bounds of their own for it."""
    outage_s: PositiveFloat = 180.0
    """How long the brokers may be silent before the process ends, so that its supervisor starts it anew."""
    drain_s: NonNegativeFloat = 30.0
    """For records in hand to be finished when the process is told to stop; others are done again elsewhere."""

    @field_validator("instance")
    @classmethod
    def _not_the_replays(cls, instance: str | None) -> str | None:
        if instance in COMMANDS:
            raise ValueError(f"{instance} is a name by which a command sends; take another")
        return instance


class MetricsConfig(Section):
    """The HTTP port: /metrics, /healthz and /readyz."""

    listen: str | None = Field(default=None, pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):[0-9]{1,5}$")
    """Address to bind, as host:port, [::1]:9090 for IPv6; port 0 takes a free one, which the line 'http' tells. Whoever
    reaches it can read it. Default: there is no such port."""
    stalled_s: PositiveFloat | None = None
    """Once a partition with something to do has not moved for so long, /healthz answers 503, so that the process is
    started anew; far above `runner.handle_timeout_s`, and endpoints that are away stop partitions too. Default: never;
    themis_pipeline_last_progress_timestamp_seconds is there to alert on."""
    max_connections: PositiveInt = 64
    """Connections at a time; beyond it requests get 503."""


class LogConfig(Section):
    """What is logged, to standard error; never text of a record, a prompt or an answer."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""
    format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
