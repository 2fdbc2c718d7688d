"""What a stage is to the runner, and what it may say of a record that it can't handle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from themis_pipeline.kafka.seam import Output, Partition, Record


class Retry(Exception):
    """Not now: the record is handled again after `after_s` seconds, without counting as a failure of its own."""

    def __init__(self, after_s: float, code: str = "retry") -> None:
        super().__init__(f"again in {after_s:g} s: {code}")
        self.after_s = after_s
        self.code = code


class Reject(Exception):
    """Never: the record goes to the dead letters at once. `code` and `detail` hold no text of the record."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Malformed(Reject):
    """It can't be read at all."""


class Oversize(Reject):
    """It is larger than the stage reads."""


class Reason(str, Enum):
    """Why a record was given up."""

    MALFORMED = "malformed"
    OVERSIZE = "oversize"
    REJECTED = "rejected"
    EXHAUSTED = "exhausted"
    OUTPUT_TOO_LARGE = "output_too_large"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record was first, before any retry: ids derive from this."""

    partition: Partition
    offset: int
    written_at_ms: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record as a stage sees it: its own headers, without the runner's."""

    record: Record
    origin: Origin
    failures: int = 0
    """How often it has failed before."""
    postponed: int = 0
    """How often it was put off by Retry."""
    not_before_ms: int = 0
    """Not to be handled before this time of the epoch."""


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A record that is given up, byte by byte as it was first."""

    stage: str
    reason: Reason
    error: str
    detail: str
    attempts: int
    delivery: Delivery


class Bury(Protocol):
    def __call__(self, dead: DeadRecord) -> Output:
        """The dead letter, for a topic whose limit leaves room for the largest original."""
        ...


class Stage(Protocol):
    """`name` is the group's: the pipeline's prefix and the stage's name in the table of topics, for which
    `themis-pipeline topics create` has committed where to begin. `topics` are read, by their names on the cluster, and
    the retry topic besides.

    Handlers run side by side on one event loop, and are cancelled when their record goes to another process: what they
    return is written once or not at all, what else they do is done at least once."""

    @property
    def name(self) -> str: ...

    @property
    def topics(self) -> Sequence[str]: ...

    async def handle(self, delivery: Delivery) -> Sequence[Output]:
        """Raises Retry, Reject or its kin; anything else counts as a failure and is tried again a few times."""
        ...
