"""The server's process: what it refuses to start with, and what its standard error never holds."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.security_parts import Authority, bearer, entry, write_callers
from tests.integration.sidecar_fakes import item, statuses
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc

ROOT = Path(__file__).parents[2]
TOKEN, TEXT = "token-0c7e12", "canary-b3d8"
MODULE = "tests.integration.sidecar_process"


async def start(*flags: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", MODULE, "--engine.model", "fake", "--listen.port", "0", *flags],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_standard_error_holds_no_token_however_much_grpc_says(tmp_path: Path) -> None:
    callers = write_callers(tmp_path / "callers.yaml", entry("trainer", TOKEN))
    ready = tmp_path / "ready"
    flags = ("--security.callers_file", str(callers), "--ready-file", str(ready))
    process = await start(*flags, GRPC_VERBOSITY="debug")
    reading = asyncio.create_task(process.communicate())
    try:
        async with asyncio.timeout(60):
            while not ready.exists():  # noqa: ASYNC110 - another process's file
                await asyncio.sleep(0.02)
        async with grpc.aio.insecure_channel(ready.read_text().strip()) as channel:
            stub: Any = judge_pb2_grpc.JudgeServiceStub(channel)
            answer = await stub.Score(pb.ScoreRequest(items=[item("a", TEXT)]), metadata=bearer(TOKEN))
            assert statuses(answer) == ["OK"]
    finally:
        process.terminate()
        _, output = await reading
    assert process.returncode == 0
    assert b'"caller": "trainer"' in output
    assert TOKEN.encode() not in output
    assert TEXT.encode() not in output


async def test_a_bad_file_stops_the_start_with_one_line(tmp_path: Path) -> None:
    certificate, key = Authority("authority").issue_server("server").write(tmp_path, "server")
    key.write_text("no key")
    broken = tmp_path / "callers.yaml"
    broken.write_text("callers: []")
    tls = ("--security.tls.cert_file", str(certificate), "--security.tls.key_file", str(key))
    for flags, said in ((tls, str(key)), (("--security.callers_file", str(broken)), "callers: Tuple should have")):
        process = await start_command(*flags)
        _, output = await process.communicate()
        assert process.returncode == 1
        assert said in output.decode()
        assert "Traceback" not in output.decode()
        assert "no key" not in output.decode()


async def test_grpcs_traces_stop_the_start() -> None:
    process = await start_command(GRPC_TRACE="all")
    _, output = await process.communicate()
    assert process.returncode == 1
    assert b"GRPC_TRACE is set" in output


async def start_command(*flags: str, **environment: str) -> asyncio.subprocess.Process:
    """The real command, with an engine that needs nothing until it loads."""
    engine = ("--engine.kind", "openai", "--engine.model", "x", "--engine.openai.base_url", "http://127.0.0.1:9/v1")
    return await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "themis_sidecar", *engine, "--listen.port", "0", *flags],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("flags", [["--listen.host", "0.0.0.0"]])
async def test_tokens_in_plaintext_stop_the_start(flags: list[str], tmp_path: Path) -> None:
    process = await start_command("--security.callers_file", str(tmp_path / "callers.yaml"), *flags)
    _, output = await process.communicate()
    assert process.returncode == 2
    assert "tokens would travel in plaintext to 0.0.0.0" in output.decode()
