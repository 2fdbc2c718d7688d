"""A replay that kills itself: `python -m ... STEP N ARGUMENT...`, N counting the transactions, the arguments those of
`themis-pipeline dead-letters`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from themis_pipeline.__main__ import complain, guarded, say
from themis_pipeline.config import KafkaConfig
from themis_pipeline.dead_letters.command import Brokers, DeadLettersCommand
from themis_pipeline.kafka.seam import Membership, Output, Partition, Place, Producer, Sent
from themis_pipeline.kafka.tools import open_producer, open_reader


@dataclass
class Mortal:
    """A producer that dies in its n-th transaction: before the `flush`, before the `commit`, or `after` it."""

    producer: Producer
    step: str
    left: int

    def begin(self) -> None:
        self.producer.begin()

    def send(self, output: Output) -> Sent:
        return self.producer.send(output)

    def flush(self, timeout_s: float) -> None:
        self.left -= 1
        self._reach("flush")
        self.producer.flush(timeout_s)

    def send_offsets(self, places: Mapping[Partition, Place], membership: Membership) -> None:
        self.producer.send_offsets(places, membership)

    def commit(self) -> None:
        self._reach("commit")
        self.producer.commit()
        self._reach("after")

    def discard(self) -> None:
        self.producer.discard()

    def _reach(self, step: str) -> None:
        if step == self.step and self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main(step: str, times: str, *arguments: str) -> int:
    @contextmanager
    def mortal(config: KafkaConfig, transactional_id: str) -> Iterator[Producer]:
        with open_producer(config, transactional_id) as producer:
            yield Mortal(producer, step, int(times))

    parser = argparse.ArgumentParser()
    DeadLettersCommand(Brokers(open_reader, mortal, guarded), say, complain).add_to(parser)
    args = parser.parse_args(arguments)
    return int(args.run(args))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
