"""The wheel in environments like a user's: each protobuf runtime we promise, each Python that is here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import grpc
import pytest

from themis_proto.v1 import judge_pb2

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What the command printed; on failure its errors are the test's."""
    # The tests' own import path must not reach into the environments that are tested.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def uv() -> str:
    found = ROOT / ".venv-uv/bin/uv"
    uv = str(found) if found.exists() else shutil.which("uv")
    if uv is None:
        pytest.skip("no uv: `make test` brings it")
    return uv


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", out)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A judge that rates everything 4.25, but for what is long; speaks with the main environment's protobuf."""

    def describe(request: judge_pb2.DescribeRequest, context: grpc.ServicerContext) -> judge_pb2.DescribeResponse:
        return judge_pb2.DescribeResponse(
            current="v1", versions=[judge_pb2.Version(id="v1")], limits=judge_pb2.Limits(max_items=64)
        )

    def score(request: judge_pb2.ScoreRequest, context: grpc.ServicerContext) -> judge_pb2.ScoreResponse:
        return judge_pb2.ScoreResponse(results=[rate(item) for item in request.items])

    def rate(item: judge_pb2.Item) -> judge_pb2.Result:
        if len(item.response.messages[0].parts[0].text) > 1000:
            return judge_pb2.Result(key=item.key, status=judge_pb2.ITEM_STATUS_TOO_LONG, error="too long", version="v1")
        verdict = judge_pb2.Verdict(expected_rating=4.25, rating=4, score=0.8125, label_mass=0.0)
        return judge_pb2.Result(key=item.key, status=judge_pb2.ITEM_STATUS_OK, verdict=verdict, version="v1")

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Describe": grpc.unary_unary_rpc_method_handler(
            describe,
            request_deserializer=judge_pb2.DescribeRequest.FromString,
            response_serializer=judge_pb2.DescribeResponse.SerializeToString,
        ),
        "Score": grpc.unary_unary_rpc_method_handler(
            score,
            request_deserializer=judge_pb2.ScoreRequest.FromString,
            response_serializer=judge_pb2.ScoreResponse.SerializeToString,
        ),
    }
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("themis.v1.JudgeService", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def call(uv: str, python: str, protobuf: int, wheel: Path, server: str, directory: Path) -> dict[str, Any]:
    """What wheel_client.py prints from an environment of this Python, the lock for this protobuf, and the wheel."""
    environment = directory / f"protobuf{protobuf}-{Path(python).name}"
    lock = ROOT / f"requirements/compat/protobuf{protobuf}.txt"
    run(uv, "venv", "--quiet", "--no-project", "--python", python, environment)
    run(uv, "pip", "sync", "--quiet", "--python", environment, "--require-hashes", "--no-build", lock)
    run(uv, "pip", "install", "--quiet", "--python", environment, "--no-deps", "--no-index", wheel)
    script = Path(__file__).with_name("wheel_client.py")
    # -I: neither the working directory nor the script's is on the path.
    answer: dict[str, Any] = json.loads(
        run(environment / "bin/python", "-I", "-W", "error", script, server, cwd=directory)
    )
    assert answer["protobuf"].startswith(f"{protobuf}.")
    assert answer["contract"] == "themis.v1"
    assert answer["current"] == "v1"
    good, too_long = answer["results"]
    assert good == {"key": "good", "score": 0.8125, "label_mass": 0.0}
    assert too_long == {"key": "too-long", "failed": "TOO_LONG"}
    return answer


def other_pythons(uv: str) -> dict[str, str]:
    """Interpreters of the versions we support, besides the one that runs the tests, that are here and start."""
    found = {}
    for version in PYTHONS:
        asked = subprocess.run([uv, "python", "find", "--no-python-downloads", version], capture_output=True, text=True)
        for candidate in (shutil.which(f"python{version}"), asked.stdout.strip()):
            if candidate and starts(candidate, version):
                found[version] = candidate
    found.pop(f"{sys.version_info.major}.{sys.version_info.minor}", None)
    return found


def starts(python: str, version: str) -> bool:
    """Whether the interpreter is one: a version manager's shim may only say that it has none."""
    probe = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", probe], capture_output=True, text=True).stdout.strip() == version


@pytest.mark.parametrize("protobuf", [5, 6, 7])
def test_every_protobuf_runtime(protobuf: int, uv: str, wheel: Path, server: str, tmp_path: Path) -> None:
    call(uv, sys.executable, protobuf, wheel, server, tmp_path)


def test_every_python_that_is_here(
    uv: str, wheel: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pythons = other_pythons(uv)
    for version, python in pythons.items():
        answer = call(uv, python, 7, wheel, server, tmp_path)
        assert ".".join(map(str, answer["python"])) == version
    with capsys.disabled():
        print(f"\nthe wheel ran on Python {', '.join(pythons) or 'none'} besides the tests' own")


def test_what_the_wheel_holds(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    packages = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert packages == {
        "themis_chat",
        "themis_client",
        "themis_judge",
        "themis_pipeline",
        "themis_proto",
        "themis_sidecar",
    }
    for package in packages:
        assert f"{package}/py.typed" in names
    assert "themis_judge/rubrics/math.yaml" in names
    assert "themis_sidecar/samples/conversations.jsonl" in names
    assert "themis_proto/v1/judge_pb2.pyi" in names
