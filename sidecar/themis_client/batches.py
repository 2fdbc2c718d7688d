"""Cuts a call's items into batches: by replica, by count and by bytes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from themis_client.description import Limits
from themis_client.replicas import Claim, Replica, Replicas

MessageT = TypeVar("MessageT")

ITEM_OVERHEAD_BYTES = 8
"""Tag and length of one item inside a batch, at most."""
MARGIN_BYTES = 64 * 1024
"""Left free in a message for options and framing."""


@dataclass(frozen=True, slots=True)
class Job(Generic[MessageT]):
    """One item on its way. index: its place in the caller's list. conversation: its digest."""

    index: int
    message: MessageT
    conversation: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one call may hold."""

    items: int
    bytes: int
    item_bytes: int

    @classmethod
    def of(cls, limits: Limits, default_items: int, most_items: int | None, channel_bytes: int) -> BatchLimits:
        """The server's limits, where it said them, within the caller's own and the channel's."""
        items = limits.max_items or default_items
        message = min(limits.max_message_bytes or channel_bytes, channel_bytes)
        room = message - min(MARGIN_BYTES, message // 8)
        item = min(limits.max_item_bytes or room, room - ITEM_OVERHEAD_BYTES)
        return cls(items if most_items is None else min(items, most_items), room, item)


@dataclass(frozen=True, slots=True)
class Batch(Generic[MessageT]):
    """What one call carries, counted as in flight on its replica."""

    claim: Claim
    jobs: tuple[Job[MessageT], ...]

    @property
    def replica(self) -> Replica:
        return self.claim.replica


def plan(
    jobs: Sequence[Job[MessageT]], replicas: Replicas, limits: BatchLimits, excluded: Collection[str]
) -> list[Batch[MessageT]] | None:
    """Batches, each conversation on one replica and in one piece or neighbouring ones; None if all are excluded."""
    conversations: dict[bytes, list[Job[MessageT]]] = {}
    for job in jobs:
        conversations.setdefault(job.conversation, []).append(job)
    shares: dict[Replica, list[Job[MessageT]]] = {}
    for conversation, members in conversations.items():
        replica = replicas.pick(conversation, len(members), excluded)
        if replica is None:
            return None  # the first one already: what is excluded doesn't depend on the conversation
        shares.setdefault(replica, []).extend(members)
    return [
        Batch(Claim(replica, len(part)), tuple(part))
        for replica, share in shares.items()
        for part in cut(share, limits)
    ]


def cut(jobs: Sequence[Job[MessageT]], limits: BatchLimits) -> Iterator[list[Job[MessageT]]]:
    """In order, each part within the limits."""
    part: list[Job[MessageT]] = []
    part_bytes = 0
    for job in jobs:
        size = job.size_bytes + ITEM_OVERHEAD_BYTES
        if part and (len(part) == limits.items or part_bytes + size > limits.bytes):
            yield part
            part, part_bytes = [], 0
        part.append(job)
        part_bytes += size
    if part:
        yield part
