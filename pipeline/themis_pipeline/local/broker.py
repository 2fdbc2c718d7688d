"""A real Apache Kafka on this machine, for tests and demonstrations: one broker, on a port of its own."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from themis_pipeline.local.java import KafkaJava, KafkaMissing

__all__ = ["KafkaBroker", "KafkaMissing", "broker_settings", "free_port", "kafka_broker", "write_settings"]

START_S, STOP_S = 120.0, 30.0
POLL_S = 0.1
LOG_CHARACTERS = 1500

# Of a broker that is alone: the defaults of these are for three.
ALONE = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
}


@dataclass(slots=True)
class KafkaBroker:
    """One broker, whose settings and data lie in `folder`. `stop` and `start` give it an outage; its data and its
    address stay."""

    folder: Path
    port: int
    java: KafkaJava
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it answers on its port. Raises KafkaMissing."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Returns at once. Raises KafkaMissing."""
        command = self.java.command("kafka.Kafka", str(self.folder / "server.properties"))
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=output)

    def wait(self) -> None:
        """Returns when it answers on its port. Raises KafkaMissing."""
        until_s = time.monotonic() + START_S
        while not _listens(self.port):
            if self._process is None or self._process.poll() is not None or time.monotonic() > until_s:
                self.stop()
                said = self._log.read_text(errors="replace")[-LOG_CHARACTERS:]
                raise KafkaMissing(f"the broker did not start; {self._log} ends with: {said}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Gracefully, so far as it lets itself be asked."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)

    def kill(self) -> None:
        """As its machine would die."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_S)

    @property
    def _log(self) -> Path:
        return self.folder / "output.log"


@contextmanager
def kafka_broker(
    folder: Path, cache: Path, *, listeners: Sequence[str] = (), settings: Mapping[str, str] | None = None
) -> Iterator[KafkaBroker]:
    """A broker until the end of the block. `folder` is there and empty; `cache` keeps Kafka's jars from one time to
    the next. Further `listeners`, SASL_SSL://localhost:9095 for instance, are named after their protocols; `settings`
    go before ours in server.properties. Raises KafkaMissing."""
    broker, controller_port = KafkaBroker(folder, free_port(), KafkaJava(cache)), free_port()
    own = {"controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}", **ALONE}
    ours = broker_settings(1, folder, broker.port, controller_port, listeners)
    properties = write_settings(folder, {**ours, **own, **(settings or {})})
    name = broker.java.run("kafka.tools.StorageTool", "random-uuid").strip().splitlines()[-1]
    broker.java.run("kafka.tools.StorageTool", "format", "-t", name, "-c", str(properties), "--standalone")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def broker_settings(
    node: int, folder: Path, port: int, controller_port: int, listeners: Sequence[str] = ()
) -> dict[str, str]:
    """What every broker of ours has in its server.properties; it is its own controller, alone or with others."""
    all_listeners = ",".join([f"PLAINTEXT://127.0.0.1:{port}", f"CONTROLLER://127.0.0.1:{controller_port}", *listeners])
    protocols = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "listeners": all_listeners,
        "advertised.listeners": all_listeners,
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": ",".join(["CONTROLLER:PLAINTEXT", *(f"{one}:{one}" for one in protocols)]),
        "log.dirs": str(folder.absolute() / "logs"),
    }


def write_settings(folder: Path, settings: Mapping[str, str]) -> Path:
    """The file that a broker of this folder reads."""
    path = folder / "server.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
