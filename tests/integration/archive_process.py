"""The archive's stage in a process that dies, or stops, at a step: `python -m ... ADDRESS PREFIX ROOT STEP N [stop]`, N
counting the times. STEP `none` lets it live until SIGTERM. It prints a line when it begins, and at its end how many
manifests were refused."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from tests.integration.archive_world import Scene
from themis_judge.store.files import Entry
from themis_judge.store.local import LocalFiles
from themis_pipeline.archive.source import Follower, Letters
from themis_pipeline.kafka.following import KafkaFollowing
from themis_pipeline.kafka.seam import Listener, Output, Sent
from themis_pipeline.runner.watchdog import Watchdog

STEPS = ("open", "letters", "sent", "data", "written", "manifest", "archived")


@dataclass(slots=True)
class Ends:
    step: str
    left: int
    number: signal.Signals

    def reach(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)


class Files(LocalFiles):
    """`data` and `manifest` are reached before a file of that kind is created, `written` and `archived` after it."""

    def __init__(self, root: Path, ends: Ends) -> None:
        super().__init__(root)
        self._ends = ends

    def create(self, path: str, data: bytes) -> None:
        before, after = ("manifest", "archived") if path.startswith("manifests") else ("data", "written")
        self._ends.reach(before)
        super().create(path, data)
        self._ends.reach(after)

    def children(self, folder: str) -> tuple[Entry, ...]:
        self._ends.reach("open")
        return super().children(folder)


@dataclass(frozen=True, slots=True)
class Told:
    """`sent` is reached when the broker has acknowledged a dead letter."""

    sent: Sent
    ends: Ends

    def wait(self, timeout_s: float) -> None:
        self.sent.wait(timeout_s)
        self.ends.reach("sent")


@dataclass(frozen=True, slots=True)
class Watched:
    letters: Letters
    ends: Ends

    def send(self, output: Output) -> Sent:
        self.ends.reach("letters")
        return Told(self.letters.send(output), self.ends)

    def discard(self) -> None:
        self.letters.discard()


@dataclass(frozen=True, slots=True)
class Source:
    source: KafkaFollowing
    ends: Ends

    def follower(self, group: str, topics: Sequence[str], listener: Listener) -> Follower:
        return self.source.follower(group, topics, listener)

    def letters(self) -> Letters:
        return Watched(self.source.letters(), self.ends)


async def main(address: str, prefix: str, root: str, step: str, times: str, how: str = "kill") -> None:
    scene, watchdog, registry = Scene(address, prefix), Watchdog(), CollectorRegistry()
    watchdog.start()
    ends = Ends(step, int(times), signal.SIGSTOP if how == "stop" else signal.SIGKILL)
    stage = scene.stage(Files(Path(root), ends), watchdog, registry, source=Source(scene.source(), ends))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stage.stop)
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await stage.run()
    watchdog.stop()
    labels = {"stage": "archive", "result": "refused"}
    sys.stdout.write(f"{registry.get_sample_value('themis_pipeline_transactions_total', labels) or 0:g}\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
