"""Sends dead letters' records back to the stage that gave them up: to its own retry topic, which nobody else reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from themis_pipeline.dead_letters.letters import delivery
from themis_pipeline.dead_letters.replays import counted
from themis_pipeline.events.codec import encode
from themis_pipeline.kafka.seam import Output, Producer
from themis_pipeline.runner.retries import for_retry
from themis_pipeline.topics.topic import Topic
from themis_proto.v1 import events_pb2 as ev

MAX_LETTERS, MAX_BYTES = 50, 8 * 1024 * 1024
"""Of one transaction."""


class DoesNotFit(Exception):
    """A record that is larger than the retry topic takes."""


@dataclass(frozen=True, slots=True)
class Returned:
    """What is written for one letter, by one transaction: the record, and that it was replayed."""

    outputs: tuple[Output, Output]

    @property
    def size_bytes(self) -> int:
        return sum(output.size_bytes for output in self.outputs)


def returned(letter: ev.DeadLetter, retry: Topic, dead: Topic, by: str, why: str) -> Returned:
    """Topics are the stage's own, placed. Raises NotWhole, DoesNotFit."""
    again = delivery(letter)
    again = replace(again, record=replace(again.record, headers=counted(again.record.headers)))
    record = for_retry(retry.name, again, not_before_ms=0)
    if record.size_bytes > retry.max_message_bytes:
        raise DoesNotFit(f"{record.size_bytes} bytes are more than {retry.name} takes")
    value, headers = encode(ev.DeadLetterReplayed(id=letter.id, by=by, why=why), dead.max_event_bytes)
    return Returned((record, Output(dead.name, letter.id.encode(), value, headers)))


class Guard(Protocol):
    def __call__(self, name: str, limit_s: float) -> AbstractContextManager[object]:
        """Ends the process when the block takes longer: a commit waits for ever on a broker that is gone."""
        ...


def send(
    producer: Producer, letters: Iterable[Returned], timeout_s: float, guard: Guard, done: Callable[[int], None]
) -> None:
    """Tells `done` how many each transaction brought back. Raises TransportError; what was told by then stays, and
    nothing of the transaction that failed."""
    for batch in _batches(letters):
        with guard("replay", 3 * timeout_s):
            producer.begin()
            sent = [producer.send(output) for letter in batch for output in letter.outputs]
            producer.flush(timeout_s)
            for one in sent:
                one.wait(timeout_s)
            producer.commit()
        done(len(batch))


def _batches(letters: Iterable[Returned]) -> Iterator[Sequence[Returned]]:
    batch: list[Returned] = []
    for letter in letters:
        weight = sum(one.size_bytes for one in batch) + letter.size_bytes
        if batch and (len(batch) >= MAX_LETTERS or weight > MAX_BYTES):
            yield batch
            batch = []
        batch.append(letter)
    if batch:
        yield batch
