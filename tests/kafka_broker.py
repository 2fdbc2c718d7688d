"""A real Apache Kafka for tests, on a port of its own: jars from Maven, kept in .cache/kafka, run by Java."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
POM = ROOT / "tests/kafka/pom.xml"
CACHE = ROOT / ".cache/kafka"
START_S, STOP_S, BUILD_S = 120.0, 30.0, 240.0
POLL_S = 0.1

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/logs
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
"""


class KafkaMissing(RuntimeError):
    """Java or Maven is missing, or the broker did not start; the text says what to do."""


@dataclass(slots=True)
class KafkaBroker:
    """One broker. `stop` and `start` give it an outage; its data and its address stay."""

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it answers on its port."""
        with (self.folder / "output.log").open("ab") as output:
            command = [*_java(), "-Xmx512m", "kafka.Kafka", str(self.folder / "server.properties")]
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=output)
        until_s = time.monotonic() + START_S
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > until_s:
                self.stop()
                raise KafkaMissing(f"the broker did not start; see {self.folder}/output.log")
            time.sleep(POLL_S)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)


@contextmanager
def kafka_broker(folder: Path) -> Iterator[KafkaBroker]:
    """A broker whose files lie in `folder`, until the end of the block."""
    broker = KafkaBroker(folder, _free_port())
    properties = folder / "server.properties"
    properties.write_text(PROPERTIES.format(port=broker.port, controller=_free_port(), folder=folder))
    name = _run(*_java(), "kafka.tools.StorageTool", "random-uuid").strip().splitlines()[-1]
    _run(*_java(), "kafka.tools.StorageTool", "format", "-t", name, "-c", str(properties), "--standalone")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def _java() -> list[str]:
    java = shutil.which("java")
    if java is None:
        raise KafkaMissing("java is missing: apt-get install openjdk-17-jre-headless")
    return [java, "-cp", f"{_jars()}/*"]


def _jars() -> Path:
    """The broker's jars, fetched once for a pom; a new pom gets a folder of its own."""
    version = POM.read_text().split("<artifactId>kafka_2.13</artifactId>")[1].split("<version>")[1].split("<")[0]
    jars = CACHE / version
    if not jars.is_dir():
        maven = shutil.which("mvn")
        if maven is None:
            raise KafkaMissing("mvn is missing: apt-get install maven")
        aside = CACHE / f".{version}"
        shutil.rmtree(aside, ignore_errors=True)
        goal = ("dependency:copy-dependencies", f"-DoutputDirectory={aside}")
        _run(maven, "--batch-mode", "--quiet", "--file", str(POM), *goal)
        aside.rename(jars)
    return jars


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_S)
    if done.returncode != 0:
        raise KafkaMissing(f"{command[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
