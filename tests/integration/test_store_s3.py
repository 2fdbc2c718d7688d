"""The store on S3's protocol: a real server process, spoken to by s3fs over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.unit.judge.store_samples import SetClock, model, state
from tests.unit.judge.test_store_desired import race
from themis_judge.store import (
    Conflict,
    CorruptVersion,
    Draft,
    InUse,
    JudgeStore,
    Manifest,
    ReplicaReport,
    StoreError,
    StoreUnavailable,
    UnknownVersion,
)
from themis_judge.store.files import AlreadyThere, NotThere
from themis_judge.store.remote import RemoteFiles

KEYS = {"key": "not", "secret": "secret", "client_kwargs": {"region_name": "us-east-1"}}
PROPOSALS = 8


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _await_http(f"http://127.0.0.1:{port}/moto-api/")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def _await_http(url: str) -> None:
    until = time.monotonic() + 60
    while not _answers(url):
        assert time.monotonic() < until, f"nothing answers at {url}"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture
def bucket(s3_server: str, request: pytest.FixtureRequest) -> str:
    name = f"bucket-{abs(hash(request.node.name)):x}"
    with urllib.request.urlopen(urllib.request.Request(f"{s3_server}/{name}", method="PUT"), timeout=30):
        return name


@pytest.fixture
def url(bucket: str) -> str:
    return f"s3://{bucket}/fleet/judges"


@pytest.fixture
def files(url: str, s3_server: str) -> Iterator[RemoteFiles]:
    made = RemoteFiles(url, {"endpoint_url": s3_server, **KEYS}, 30)
    yield made
    made.close()


@pytest.fixture
def store(url: str, s3_server: str, tmp_path: Path) -> Iterator[JudgeStore]:
    made = opened(url, s3_server, tmp_path)
    yield made
    made.close()


def opened(url: str, endpoint: str, tmp_path: Path, timeout_s: float = 30, cache: str = "cache") -> JudgeStore:
    options = {"endpoint_url": endpoint, **KEYS}
    return JudgeStore.open(url, tmp_path / cache, timeout_s=timeout_s, storage_options=options)


def published(store: JudgeStore, tmp_path: Path, name: str = "judge", size: int = 64) -> Manifest:
    return store.publish(Draft(name, model(tmp_path / name, size), "base"))


# ---------------------------------------------------------------------------------------------------- the seam


def test_a_file_is_created_once(files: RemoteFiles) -> None:
    """By the server's own account: what s3fs sends in `mode="create"` is heeded, byte for byte."""
    files.create("a/b.json", b"first")
    with pytest.raises(AlreadyThere):
        files.create("a/b.json", b"second")
    assert files.read("a/b.json") == b"first"
    with ThreadPoolExecutor(8) as pool:
        won = [index for index, done in enumerate(pool.map(lambda n: _creates(files, bytes([n])), range(8))) if done]
    assert len(won) == 1
    assert files.read("c.json") == bytes(won)


def _creates(files: RemoteFiles, data: bytes) -> bool:
    try:
        files.create("c.json", data)
    except AlreadyThere:
        return False
    return True


def test_files_come_and_go(files: RemoteFiles, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1" * 1000)
    files.put(tmp_path / "one", "x/y/one")
    files.replace("x/two", b"2")
    files.replace("x/two", b"22")
    assert [(entry.name, entry.is_folder, entry.bytes) for entry in files.children("x")] == [
        ("two", False, 2),
        ("y", True, 0),
    ]
    assert files.children("x")[0].modified_at_s == pytest.approx(time.time(), abs=60)
    files.get("x/y/one", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"1" * 1000
    for _ in range(2):
        files.delete("x/two")
    with pytest.raises(NotThere):
        files.read("x/two")
    with pytest.raises(NotThere):
        files.get("x/two", tmp_path / "none")
    assert files.children("nowhere") == ()
    assert files.local("x") is None


class Heedless(BaseHTTPRequestHandler):
    """An object store of the kind that takes no notice of If-None-Match."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_store_that_does_not_create_exclusively_is_found_out(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Heedless) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        files = RemoteFiles("s3://bucket/x", {"endpoint_url": f"http://127.0.0.1:{server.server_port}", **KEYS}, 30)
        with pytest.raises(StoreError, match="If-None-Match"):
            files.create("desired/00000001.json", b"x")
        files.close()
        server.shutdown()


# ---------------------------------------------------------------------------------------------------- the store


def test_a_version_s_whole_life(store: JudgeStore, url: str, s3_server: str, tmp_path: Path) -> None:
    assert store.desired() is None
    assert store.list() == ()
    made, other = published(store, tmp_path), published(store, tmp_path, "other")
    assert store.list() == (made, other)
    folder = store.fetch(made.id)
    assert {file.name: file.read_bytes() for file in (folder / "judge").iterdir()} == {
        file.name: file.read_bytes() for file in (tmp_path / "judge").iterdir()
    }
    store.propose(state(1, made.id, other.id))
    with pytest.raises(Conflict):
        store.propose(state(1, other.id))
    elsewhere = opened(url, s3_server, tmp_path, cache="elsewhere")
    assert elsewhere.desired() == state(1, made.id, other.id)
    lease = elsewhere.hold(other.id, "run-7", 600)
    elsewhere.propose(state(2, made.id, previous=other.id))
    with pytest.raises(InUse, match="run-7"):
        store.retire(other.id, "old")
    elsewhere.release(lease.id)
    store.retire(other.id, "old")
    assert elsewhere.list() == (made,)
    store.report(ReplicaReport("pod", "2026-01-02T03:04:05Z", 3, made.id, {made.id: "ready"}))
    assert [report.replica for report in elsewhere.reports(60)] == ["pod"]
    assert f"versions/{other.id}/manifest.json" in elsewhere.collect(0).paths
    with pytest.raises(UnknownVersion):
        elsewhere.manifest(other.id)
    elsewhere.close()


def test_a_jump_of_this_machine_s_clock_retires_nothing_under_a_lease(
    store: JudgeStore, url: str, s3_server: str, tmp_path: Path
) -> None:
    first, second = published(store, tmp_path), published(store, tmp_path, "other")
    store.propose(state(1, first.id))
    store.hold(second.id, "run-7", 600)
    wrong = SetClock()
    wrong.jump_s(20 * 365 * 86_400)
    ahead = JudgeStore.open(url, tmp_path / "ahead", storage_options={"endpoint_url": s3_server, **KEYS}, clock=wrong)
    assert ahead.leases() == (), "by its clock it ran out"
    with pytest.raises(InUse, match="run-7"):
        ahead.retire(second.id, "old")
    ahead.close()


def test_of_many_processes_exactly_one_wins_each_number(
    store: JudgeStore, url: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the endpoint and the credentials from the environment, as a deployment has them."""
    version = published(store, tmp_path).id
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "not",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    won = race(url, tmp_path, version, PROPOSALS)
    assert sorted(number for numbers in won.values() for number in numbers) == list(range(1, PROPOSALS + 1))


def test_a_damaged_object_is_named_and_not_cached(store: JudgeStore, files: RemoteFiles, tmp_path: Path) -> None:
    made = published(store, tmp_path)
    path = f"versions/{made.id}/files/judge/config.json"
    files.replace(path, files.read(path).replace(b"tiny", b"tinY"))
    with pytest.raises(CorruptVersion, match=r"judge/config\.json has other contents"):
        store.fetch(made.id)
    files.delete(path)
    with pytest.raises(CorruptVersion, match=r"judge/config\.json is missing"):
        store.fetch(made.id)
    assert list((tmp_path / "cache").iterdir()) == []
    manifest = f"versions/{made.id}/manifest.json"
    files.replace(manifest, files.read(manifest)[:-5])
    with pytest.raises(CorruptVersion, match="manifest"):
        store.manifest(made.id)


def test_weights_of_many_parts_arrive_whole(store: JudgeStore, tmp_path: Path) -> None:
    """Above what goes out in one request: S3 gets it in parts, put together at the end."""
    made = published(store, tmp_path, "large", size=110 << 20)
    folder = store.fetch(made.id)
    assert sum(file.stat().st_size for file in (folder / "judge").iterdir()) == made.bytes


def test_a_publisher_that_dies_leaves_what_cleaning_removes(
    store: JudgeStore, url: str, s3_server: str, files: RemoteFiles, tmp_path: Path
) -> None:
    files.put(model(tmp_path / "half") / "config.json", "versions/judge-0123456789ab/files/judge/config.json")
    assert store.list() == ()
    with pytest.raises(UnknownVersion):
        store.fetch("judge-0123456789ab")
    assert store.collect(3600).paths == ()
    assert store.collect(0).paths == ("versions/judge-0123456789ab/files/judge/config.json",)
    assert files.children("versions") == ()


# ---------------------------------------------------------------------------------------------------- no answer


def test_a_bucket_that_is_not_there_is_no_empty_store(s3_server: str, tmp_path: Path) -> None:
    store = opened("s3://no-such-bucket/judges", s3_server, tmp_path)
    for ask in (store.list, store.desired, lambda: store.publish(Draft("judge", model(tmp_path / "model"), "base"))):
        with pytest.raises(StoreUnavailable, match="no such bucket"):
            ask()
    store.close()


def test_an_unreachable_store_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refused
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        _all_unavailable(opened("s3://bucket/judges", endpoint, tmp_path, timeout_s=0.5), tmp_path)


def test_a_store_that_never_answers_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # accepts by itself, and nobody ever reads
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        _all_unavailable(opened("s3://bucket/judges", endpoint, tmp_path, timeout_s=0.5), tmp_path)


def _all_unavailable(store: JudgeStore, tmp_path: Path) -> None:
    version = "judge-0123456789ab"
    calls: list[Any] = [
        store.list,
        store.desired,
        store.leases,
        lambda: store.fetch(version),
        lambda: store.propose(state(1, version)),
        lambda: store.hold(version, "run", 60),
        lambda: store.publish(Draft("judge", model(tmp_path / "model"), "base")),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            call()
    store.close()


def test_a_protocol_without_deadlines_is_refused(tmp_path: Path) -> None:
    for url, problem in (("memory://x", "deadline"), ("nonsense://x", "nonsense")):
        with pytest.raises(StoreError, match=problem):
            JudgeStore.open(url, tmp_path / "cache")


def test_the_credentials_are_in_no_error(tmp_path: Path, s3_server: str) -> None:
    options = {"endpoint_url": s3_server, "key": "AKIAVISIBLE", "secret": "s3cr3t-visible"}
    store = JudgeStore.open("s3://no-such-bucket/x", tmp_path / "cache", storage_options=options)
    with pytest.raises(StoreUnavailable) as raised:
        store.list()
    assert "visible" not in str(raised.value).lower()
    store.close()
