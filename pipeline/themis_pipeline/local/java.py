"""Kafka's own programs, run by Java: their jars come from Maven once, and are kept in a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
FETCH_S, RUN_S = 240.0, 60.0


class KafkaMissing(RuntimeError):
    """Java or Maven is missing, or a program of Kafka failed; the text says what to do."""


@dataclass(frozen=True, slots=True)
class KafkaJava:
    """`cache` keeps the jars, a folder for each version."""

    cache: Path

    def command(self, main_class: str, *arguments: str) -> list[str]:
        """The first call fetches the jars, which takes up to some minutes. Raises KafkaMissing."""
        java = shutil.which("java")
        if java is None:
            raise KafkaMissing("java is missing: apt-get install openjdk-17-jre-headless")
        return [java, "-Xmx512m", "-cp", f"{self._jars()}/*", main_class, *arguments]

    def run(self, main_class: str, *arguments: str) -> str:
        """What it printed. Raises KafkaMissing."""
        return _run(self.command(main_class, *arguments), RUN_S)

    def _jars(self) -> Path:
        """A new version gets a folder of its own."""
        jars = self.cache.absolute() / _version()
        if not jars.is_dir():
            self._fetch(jars)
        return jars

    def _fetch(self, jars: Path) -> None:
        maven = shutil.which("mvn")
        if maven is None:
            raise KafkaMissing("mvn is missing: apt-get install maven")
        jars.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=jars.parent) as folder:
            aside = Path(folder) / jars.name
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={aside}"]
            _run([maven, "--batch-mode", "--quiet", "--file", str(POM), *goal], FETCH_S)
            try:
                os.rename(aside, jars)
            except OSError:
                if not jars.is_dir():  # where it is, another process was first
                    raise


def _version() -> str:
    return (
        POM.read_text(encoding="utf-8").split("<artifactId>kafka_2.13</artifactId>\n      <version>")[1].split("<")[0]
    )


def _run(command: list[str], limit_s: float) -> str:
    try:
        done = subprocess.run(command, cwd=POM.parent, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise KafkaMissing(f"{command[0]} took more than {limit_s:g} s") from error
    if done.returncode != 0:
        raise KafkaMissing(f"{command[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
