"""Settings of the judge, of the port, and of what the server takes on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from themis_sidecar.config.section import Section


class ListenConfig(Section):
    """Where the server listens."""

    host: str = "127.0.0.1"
    """Address to bind."""
    port: int = Field(default=50051, ge=0, le=65535)
    """Port to bind; 0 takes a free one, which the line 'serving' tells."""
    max_connection_age_s: PositiveFloat | None = None
    """Age at which a connection is asked to close, so that clients find new replicas; default: never."""


class JudgeConfig(Section):
    """How it judges; part of the version's identity."""

    data_order: Literal["cached", "paper"] = "cached"
    """Where the data stand in the prompt: after all static text, or where the paper puts them."""
    verdict_order: Literal["rating_first", "reason_first"] = "rating_first"
    """Whether the rating or the reasons come first."""
    label_mass_threshold: float = Field(default=0.5, ge=0, le=1)
    """Label mass below which a verdict is OFF_FORMAT."""
    scenario_dirs: tuple[Path, ...] = ()
    """Folders with scenarios of your own, one YAML file each; a later one replaces an earlier id."""
    reference_scenarios: tuple[str, ...] | None = None
    """Scenarios whose references are shown to the judge; default: as each scenario says."""


class LimitsConfig(Section):
    """What the server takes on, and for how long."""

    max_items: PositiveInt = 512
    """Items in a call."""
    max_message_bytes: PositiveInt = 64 * 1024 * 1024
    """Bytes of a message on the wire, either way."""
    max_item_bytes: PositiveInt = 1024 * 1024
    """Bytes of one item."""
    stream_window: PositiveInt = 64
    """Items that a stream holds at a time."""
    max_calls: PositiveInt = 1024
    """Calls in flight, streams included."""
    max_queue_tokens: PositiveInt = 2_000_000
    """Tokens admitted and not yet answered, all callers together."""
    max_deadline_s: PositiveFloat = 600.0
    """The longest a call may take; calls without a deadline get this one."""
    answer_margin_s: NonNegativeFloat = 0.1
    """How long before a caller's deadline its items are given up, so that the finished ones still reach it."""
    stuck_after_s: PositiveFloat = 120.0
    """Without progress for so long the engine counts as stuck, and the process ends."""
    flush_s: NonNegativeFloat = 1.0
    """How long callers get to receive their failures before a process with a failed engine ends."""
    drain_notice_s: NonNegativeFloat = 1.0
    """Between health's NOT_SERVING and the refusal of new calls, so that balancers notice first."""
    drain_s: NonNegativeFloat = 45.0
    """How long calls in flight may go on after that."""


class LogConfig(Section):
    """What is logged, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""
    format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
    log_text: bool = False
    """Whether messages of unexpected errors, which may quote prompts and responses, are written."""
