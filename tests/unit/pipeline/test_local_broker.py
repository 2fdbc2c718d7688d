"""The broker that is started locally: what it says when it can't be."""

from __future__ import annotations

from pathlib import Path

import pytest

from themis_pipeline.local.broker import KafkaMissing, kafka_broker
from themis_pipeline.local.java import KafkaJava


def programs(folder: Path, **scripts: str) -> str:
    """A PATH with these programs alone."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


FETCH = 'for word; do case $word in -DoutputDirectory=*) /bin/mkdir "${word#*=}";; esac; done'


def test_without_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path / "bin"))
    with pytest.raises(KafkaMissing, match="apt-get install openjdk-17-jre-headless"):
        KafkaJava(tmp_path / "jars").command("Any")


def test_without_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", java="exit 0"))
    with pytest.raises(KafkaMissing, match="apt-get install maven"):
        KafkaJava(tmp_path / "jars").command("Any")


def test_jars_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = tmp_path / "fetched"
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", java="exit 0", mvn=f"echo once >> {fetched}\n{FETCH}"))
    java = KafkaJava(tmp_path / "jars")
    assert java.command("Any", "thing") == java.command("Any", "thing")
    assert fetched.read_text() == "once\n"
    assert java.command("Any", "thing")[-2:] == ["Any", "thing"]
    assert [folder.name for folder in (tmp_path / "jars").iterdir()] == ["4.1.0"]


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", java="exit 0", mvn=f"{FETCH}\necho no network >&2; exit 1"))
    with pytest.raises(KafkaMissing, match="no network"):
        KafkaJava(tmp_path / "jars").command("Any")
    assert list((tmp_path / "jars").iterdir()) == []


def test_a_broker_that_ends_at_once_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = 'case "$*" in *kafka.Kafka*) echo "wrong Java"; exit 1;; *) echo id;; esac'
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", java=broken, mvn=FETCH))
    (tmp_path / "broker").mkdir()
    with (
        pytest.raises(KafkaMissing, match=r"did not start; .*output\.log ends with: wrong Java"),
        kafka_broker(tmp_path / "broker", tmp_path / "jars"),
    ):
        pytest.fail("it has started")
