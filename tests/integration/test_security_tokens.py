"""Bearer tokens on a real port: who may call what, rotation, and what the log says about it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]

from tests.integration.security_parts import (
    SERVER_NAME,
    Authority,
    bearer,
    digest,
    entry,
    fails_with,
    guarded,
    replace,
    until,
    write_callers,
)
from tests.integration.sidecar_fakes import FakeJudge, item, statuses
from themis_client import AsyncClient, Item, Refused, RetryPolicy, Tls
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc

TOKEN, OTHER = "token-4b1d9a77c0", "token-e2f05c31aa"
TEXT = "canary-8e21"
ONCE = RetryPolicy(attempts=1)
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
NO_CALLER: tuple[tuple[str, str], ...] = ()


@pytest.fixture
def callers(tmp_path: Path) -> Path:
    return write_callers(
        tmp_path / "callers.yaml", entry("trainer", TOKEN), entry("platform", OTHER, role="admin")
    )  # fmt: skip


@asynccontextmanager
async def stub_of(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield judge_pb2_grpc.JudgeServiceStub(channel)


async def test_a_known_token_is_let_in_and_named_in_the_log(callers: Path) -> None:
    async with guarded(security={"callers_file": callers}) as served, stub_of(served.address) as stub:
        response = await stub.Score(pb.ScoreRequest(items=[item()]), metadata=bearer(TOKEN))
        assert statuses(response) == ["OK"]
        await stub.Describe(pb.DescribeRequest(), metadata=(("authorization", f"bearer {OTHER}"),))
    assert [line["caller"] for line in served.lines("call")] == ["trainer", "platform"]


@pytest.mark.parametrize(
    "metadata",
    [
        NO_CALLER,
        bearer(""),
        bearer("unknown"),
        bearer(f"{TOKEN} "),
        bearer(digest(TOKEN)),
        (("authorization", TOKEN),),
        (("authorization", f"Basic {TOKEN}"),),
        (*bearer(TOKEN), *bearer(TOKEN)),
        bearer("x" * 5000),
    ],
)
async def test_all_others_are_not(callers: Path, metadata: Any) -> None:
    judge = FakeJudge()
    async with guarded(judge, security={"callers_file": callers}) as served, stub_of(served.address) as stub:
        requests = (
            (stub.Score, pb.ScoreRequest(items=[item(TEXT, TEXT)])),
            (stub.Compare, pb.CompareRequest()),
            (stub.Classify, pb.ClassifyRequest()),
            (stub.Difficulty, pb.DifficultyRequest()),
            (stub.Describe, pb.DescribeRequest()),
        )
        for method, request in requests:
            await fails_with(method(request, metadata=metadata), UNAUTHENTICATED)
        stream = stub.StreamScores(metadata=metadata)
        await fails_with(stream.read(), UNAUTHENTICATED)
    assert judge.started == []
    assert not served.lines("call")
    assert len(served.lines("refused")) == 6
    for secret in (TOKEN, OTHER, TEXT, digest(TOKEN), digest(OTHER)):
        assert secret not in served.log.getvalue()


async def test_a_strangers_message_is_not_even_read(callers: Path) -> None:
    async with (
        guarded(security={"callers_file": callers}, limits={"max_message_bytes": 1000}) as served,
        grpc.aio.insecure_channel(served.address) as channel,
    ):
        raw: Any = channel.unary_unary("/themis.v1.JudgeService/Score")
        await fails_with(raw(b"\xff" * 500_000), UNAUTHENTICATED)
        await fails_with(raw(b"\xff" * 500_000, metadata=bearer(TOKEN)), grpc.StatusCode.RESOURCE_EXHAUSTED)


async def test_health_needs_no_token_and_reflection_does(callers: Path) -> None:
    async def listed(channel: grpc.aio.Channel, metadata: Any) -> int:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(metadata=metadata)
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        response = await call.read()
        await call.done_writing()
        return len(response.list_services_response.service)

    for is_open in (False, True):
        security = {"callers_file": callers, "open_reflection": is_open}
        async with guarded(security=security) as served, grpc.aio.insecure_channel(served.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", "themis.v1.JudgeService"):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            watch.cancel()
            assert await listed(channel, bearer(TOKEN)) == 4
            if is_open:
                assert await listed(channel, NO_CALLER) == 4
            else:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await listed(channel, NO_CALLER)
                assert caught.value.code() is UNAUTHENTICATED


async def test_tokens_rotate_without_a_restart(callers: Path) -> None:
    async with guarded(security={"callers_file": callers}) as served, stub_of(served.address) as stub:

        async def works(token: str) -> bool:
            code = await stub.Describe(pb.DescribeRequest(), metadata=bearer(token)).code()
            assert code in (grpc.StatusCode.OK, UNAUTHENTICATED)
            return bool(code is grpc.StatusCode.OK)

        write_callers(callers, entry("trainer", TOKEN, OTHER))
        await served.logged("reloaded")
        assert (await works(TOKEN), await works(OTHER)) == (True, True)
        write_callers(callers, entry("trainer", OTHER))
        await served.logged("reloaded", 2)
        assert (await works(TOKEN), await works(OTHER)) == (False, True)
        for count, broken in enumerate((b"callers: [", b"", b"callers: [{name: trainer, token: " + TOKEN.encode()), 1):
            replace(callers, broken)
            assert (await served.logged("reload_rejected", count))["what"] == "callers"
            assert (await works(TOKEN), await works(OTHER)) == (False, True)
        await asyncio.to_thread(callers.unlink)
        await served.logged("reload_rejected", 4)
        assert await works(OTHER)
    assert {line["caller"] for line in served.lines("call")} == {"trainer"}
    assert TOKEN not in served.log.getvalue()


async def test_a_stream_goes_on_when_its_callers_token_is_withdrawn(callers: Path) -> None:
    """Tokens are looked at where calls begin: what ends a stream is its deadline."""
    judge = FakeJudge()
    async with guarded(judge, security={"callers_file": callers}) as served, stub_of(served.address) as stub:
        stream = stub.StreamScores(metadata=bearer(TOKEN))
        await stream.write(pb.StreamScoresRequest(options=pb.ScoreOptions()))
        assert (await stream.read()).WhichOneof("kind") == "opened"
        write_callers(callers, entry("platform", OTHER, role="admin"))
        await served.logged("reloaded")
        await stream.write(pb.StreamScoresRequest(item=pb.StreamItem(id="a", item=item("a"))))
        assert (await stream.read()).result.id == "a"
        await stream.done_writing()
        await fails_with(stub.Describe(pb.DescribeRequest(), metadata=bearer(TOKEN)), UNAUTHENTICATED)


async def test_the_client_reads_a_new_token_from_its_file(callers: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    async with (
        guarded(security={"callers_file": callers}) as served,
        AsyncClient(served.address, token_file=file, retry=ONCE) as client,
    ):
        assert (await client.score([Item("q", "a")])).ok
        write_callers(callers, entry("trainer", OTHER))
        await served.logged("reloaded")
        with pytest.raises(Refused, match="not known"):
            await client.score([Item("q", "a")])
        for away in (lambda: file.unlink(), lambda: file.write_text("")):
            away()
            with pytest.raises(Refused):
                await client.score([Item("q", "a")])
        replace(file, OTHER.encode())
        assert (await client.score([Item("q", "a")])).ok


async def test_a_token_and_a_certificate_each_name_a_caller(callers: Path, tmp_path: Path) -> None:
    authority = Authority("authority")
    ca_file = tmp_path / "ca.crt"
    ca_file.write_bytes(authority.certificate)
    certificate, key = authority.issue_server("server").write(tmp_path, "server")
    write_callers(
        callers, entry("trainer", TOKEN), {"name": "listed", "role": "score", "certificates": ["pod.example"]}
    )
    tls = {"cert_file": certificate, "key_file": key, "client_ca_file": ca_file}

    async def describe(address: str, name: str, token: str | None) -> None:
        shown = Tls(ca_file, *authority.issue(name).write(tmp_path, "own"), server_name=SERVER_NAME)
        async with AsyncClient(address, tls=shown, token=token, retry=ONCE) as client:
            await client.describe()

    async with guarded(security={"callers_file": callers, "tls": tls}) as served:
        await describe(served.address, "pod.example", None)
        await describe(served.address, "pod.example", TOKEN)
        await describe(served.address, "unlisted.example", TOKEN)
        for name, token in (("unlisted.example", None), ("pod.example", "wrong")):
            with pytest.raises(Refused):
                await describe(served.address, name, token)
    assert [line["caller"] for line in served.lines("call")] == ["listed", "trainer", "trainer"]


async def test_logs_hold_no_token_and_no_text_whatever_happens(callers: Path) -> None:
    judge = FakeJudge()
    async with guarded(judge, security={"callers_file": callers}) as served, stub_of(served.address) as stub:

        async def score(key: str, token: str = TOKEN, **more: Any) -> Any:
            request = pb.ScoreRequest(items=[item(key, TEXT, reference=TEXT)], **more)
            return (await asyncio.gather(stub.Score(request, metadata=bearer(token)), return_exceptions=True))[0]

        assert statuses(await score(f"good {TEXT}")) == ["OK"]
        assert statuses(await score(f"invalid {TEXT}")) == ["INVALID"]
        for key, token, more in (
            (f"raise {TEXT}", TOKEN, {}),
            (f"unavailable {TEXT}", TOKEN, {}),
            (f"overloaded {TEXT}", TOKEN, {}),
            (TEXT, "wrong-3fa9", {}),
            (TEXT, TOKEN, {"options": pb.ScoreOptions(version=TEXT)}),
        ):
            error = await score(key, token, **more)
            assert isinstance(error, grpc.aio.AioRpcError)
            assert TOKEN not in (error.details() or "")
        gone = stub.Score(pb.ScoreRequest(items=[item("hold", TEXT)]), metadata=bearer(TOKEN))
        await judge.until(lambda: "hold" in judge.started)
        gone.cancel()
        await judge.until(lambda: "hold" in judge.cancelled)
        await until(lambda: len(served.lines("call")) == 7)
    for secret in (TOKEN, OTHER, TEXT, "wrong-3fa9", digest(TOKEN)):
        assert secret not in served.log.getvalue()
    assert {line["caller"] for line in served.lines("call")} == {"trainer"}


async def test_the_command_line_takes_a_token_file(callers: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    async with guarded(security={"callers_file": callers}) as served:
        command = [sys.executable, "-m", "themis_client.cli", "describe", "-s", served.address]
        done = await asyncio.to_thread(
            subprocess.run, [*command, "--token-file", str(file)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        refused = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert refused.returncode == 3
        assert "Refused" in refused.stderr
        bad = await asyncio.to_thread(
            subprocess.run, [*command, "--tls-cert", "x"], capture_output=True, text=True, check=False
        )
        assert bad.returncode == 2
        assert "--tls-cert and --tls-key" in bad.stderr
