"""A pipeline of its own on a broker: topics, settings, `themis-pipeline run` as a process, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from google.protobuf.message import Message
from kafka.admin import KafkaAdminClient, OffsetSpec  # type: ignore[import-untyped]

from tests.integration.sidecar_running import events, until
from themis_pipeline.__main__ import main
from themis_pipeline.config import KafkaConfig
from themis_pipeline.events.codec import decode
from themis_pipeline.kafka.seam import Output, Record
from themis_pipeline.kafka.tools import open_producer, open_reader
from themis_pipeline.topics import TABLE, Topic, dead_letter_topic
from themis_proto.v1 import events_pb2 as ev

ROOT = Path(__file__).parents[2]
END_S = 60.0
DONE_S = 120.0
JUDGE = "themis-judge"
EventT = TypeVar("EventT", bound=Message)


@dataclass
class Process:
    """`themis-pipeline run`, running."""

    popen: subprocess.Popen[bytes]
    log: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        return events(self.log, name)

    def until(self, name: str, count: int = 1) -> None:
        until(lambda: len(self.events(name)) >= count or self.popen.poll() is not None, self.log)
        assert len(self.events(name)) >= count, self.log.read_text()

    def get(self, path: str) -> tuple[int, str]:
        self.until("http")
        try:
            with urllib.request.urlopen(f"http://{self.events('http')[-1]['address']}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def ready(self) -> None:
        self.until("http")
        until(lambda: self.popen.poll() is not None or self.get("/readyz")[0] == 200, self.log)

    def stop(self) -> int:
        self.popen.terminate()
        return self.popen.wait(END_S)


class Pipeline:
    """settings: sections of the file, beside those that every pipeline here has."""

    def __init__(self, folder: Path, address: str, **settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.prefix = f"p{uuid4().hex[:8]}-"
        self.kafka = KafkaConfig(bootstrap_servers=(address,))
        topics = {"prefix": self.prefix, "replication": 1, "min_isr": 1}
        self._settings: dict[str, Any] = {
            "kafka": {"bootstrap_servers": [address]},
            "topics": {**topics, "partitions": {topic.name: 2 for topic in TABLE}},
            "runner": {"instance": "test-0", "session_timeout_s": 6, "first_delay_s": 0.1, "max_delay_s": 0.2,
                       "commit_interval_s": 0.05},
            "metrics": {"listen": "127.0.0.1:0"},
            "log": {"level": "debug"},
            "judge": {"lineage": [JUDGE]},
        }  # fmt: skip
        self.settings = folder / "settings.yaml"
        self.change(**settings)

    def change(self, **settings: Mapping[str, Any]) -> None:
        """For processes that start after it."""
        for name, section in settings.items():
            self._settings[name] = {**self._settings.get(name, {}), **section}
        self.settings.write_text(json.dumps(self._settings))  # JSON is YAML

    def create_topics(self) -> None:
        assert main(["topics", "create", "--config", str(self.settings)]) == 0

    @contextmanager
    def running(self, *stages: str, flags: Sequence[str] = ()) -> Iterator[Process]:
        """From its start to killed."""
        log = self.folder / f"log-{uuid4().hex[:6]}"
        command = [sys.executable, "-m", "themis_pipeline", "run", *stages, "--config", str(self.settings), *flags]
        with log.open("wb") as stream:
            popen = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "COLUMNS": "200"}, stderr=stream)
        try:
            yield Process(popen, log)
        finally:
            popen.kill()
            popen.wait()

    def feed(self, topic: Topic, values: Sequence[bytes], headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        """As people do, or as a stage with headers."""
        name = self.prefix + topic.name
        with open_producer(self.kafka, f"{self.prefix}feeder") as producer:
            producer.begin()
            sent = [producer.send(Output(name, str(n).encode(), value, headers)) for n, value in enumerate(values)]
            producer.flush(60)
            for one in sent:
                one.wait(60)
            producer.commit()

    def records(self, topic: Topic) -> list[Record]:
        """All that is committed there."""
        with open_reader(self.kafka) as reader:
            return list(reader.scan(self.prefix + topic.name))

    def read(self, topic: Topic, kind: type[EventT]) -> list[EventT]:
        return [decode(record, [kind], topic.max_event_bytes) for record in self.records(topic)]

    def letters(self, stage: str) -> list[ev.DeadLetter]:
        return self.read(dead_letter_topic(stage), ev.DeadLetter)

    def settled(self, process: Process, *stages: str) -> None:
        """Waits until nothing is left to do for these stages, which are named in the order in which they feed each
        other, so that what one has written is seen as the next one's."""
        give_up_s = time.monotonic() + DONE_S
        admin = KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers)
        try:
            while lags := {stage: lag for stage in stages if (lag := self._lag(admin, stage))}:
                assert process.popen.poll() is None, process.log.read_text()
                assert time.monotonic() < give_up_s, f"{lags} is left: {process.log.read_text()[-3000:]}"
                time.sleep(0.1)
        finally:
            admin.close()

    def _lag(self, admin: Any, stage: str) -> int:
        """Of a stage's group, its retries included."""
        offsets = admin.list_group_offsets({self.prefix + stage: None})[self.prefix + stage]
        ends = admin.list_partition_offsets(dict.fromkeys(offsets, OffsetSpec.LATEST))
        return int(sum(ends[place].offset - offsets[place].offset for place in offsets))
