"""TLS and mTLS on a real port: who gets through, and what happens when the files change."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.integration.security_parts import SERVER_NAME, Authority, Pair, guarded, replace, served_name
from tests.integration.sidecar_fakes import VERSION, FakeJudge
from themis_client import AsyncClient, Item, RetryPolicy, Tls, Unavailable

ONCE = RetryPolicy(attempts=1)
ITEM = Item("a question", "an answer")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("authority")


@pytest.fixture
def ca_file(authority: Authority, tmp_path: Path) -> Path:
    path = tmp_path / "ca.crt"
    path.write_bytes(authority.certificate)
    return path


@pytest.fixture
def server_files(authority: Authority, tmp_path: Path) -> dict[str, Path]:
    certificate, key = authority.issue_server("first").write(tmp_path, "server")
    return {"cert_file": certificate, "key_file": key}


def client(address: str, tls: Tls | None, **more: Any) -> AsyncClient:
    return AsyncClient(address, tls=tls, retry=ONCE, timeout_s=20, **more)


async def score_once(address: str, tls: Tls | None) -> float:
    async with client(address, tls) as judge:
        [score] = (await judge.score([ITEM])).raise_if_failed()
        return float(score)


async def test_the_client_checks_who_serves(server_files: dict[str, Path], ca_file: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.crt"
    stranger.write_bytes(Authority("stranger").certificate)
    async with guarded(security={"tls": server_files}) as served:
        assert await score_once(served.address, Tls(ca_file, server_name=SERVER_NAME)) == 0.75
        for wrong in (
            Tls(stranger, server_name=SERVER_NAME),
            Tls(ca_file, server_name="other.example"),
            Tls(ca_file),  # the address is no name that the certificate has
            None,  # plaintext
        ):
            with pytest.raises(Unavailable):
                await score_once(served.address, wrong)


async def test_mutual_tls_lets_in_and_names_whom_the_authority_vouches_for(
    authority: Authority, server_files: dict[str, Path], ca_file: Path, tmp_path: Path
) -> None:
    def show(pair: Pair, name: str) -> Tls:
        return Tls(ca_file, *pair.write(tmp_path, name), server_name=SERVER_NAME)

    uri = x509.UniformResourceIdentifier("spiffe://example/trainer-b")
    async with guarded(security={"tls": {**server_files, "client_ca_file": ca_file}}) as served:
        await score_once(served.address, show(authority.issue("trainer-a"), "a"))
        await score_once(served.address, show(authority.issue("", [uri]), "b"))
        assert {line["caller"] for line in served.lines("call")} == {"trainer-a", "spiffe://example/trainer-b"}
        with pytest.raises(Unavailable):
            await score_once(served.address, Tls(ca_file, server_name=SERVER_NAME))
        with pytest.raises(Unavailable):
            await score_once(served.address, show(Authority("authority").issue("trainer-a"), "forged"))
        assert len(served.lines("call")) == 4  # Describe and Score of two callers


async def test_new_connections_get_the_new_certificate_and_old_ones_live_on(
    authority: Authority, server_files: dict[str, Path], ca_file: Path, tmp_path: Path
) -> None:
    judge = FakeJudge()
    async with (
        guarded(judge, security={"tls": server_files}) as served,
        client(served.address, Tls(ca_file, server_name=SERVER_NAME)) as old,
    ):
        running = asyncio.ensure_future(old.score([Item("q", "a", key="hold")]))
        await judge.until(lambda: "hold" in judge.started)
        assert await asyncio.to_thread(served_name, served.address, authority.certificate) == "first"
        authority.issue_server("second").write(tmp_path, "server")
        assert (await served.logged("reloaded"))["what"] == "certificates"
        assert await asyncio.to_thread(served_name, served.address, authority.certificate) == "second"
        judge.released.set()
        assert (await running).ok
        assert await score_once(served.address, Tls(ca_file, server_name=SERVER_NAME)) == 0.75


async def test_a_broken_pair_is_logged_once_and_the_last_good_one_stays(
    authority: Authority, server_files: dict[str, Path], tmp_path: Path
) -> None:
    async with guarded(security={"tls": server_files}) as served:

        async def shown() -> str:
            return await asyncio.to_thread(served_name, served.address, authority.certificate)

        async def rejected(count: int) -> None:
            problem = (await served.logged("reload_rejected", count))["problem"]
            assert str(server_files["cert_file"]) in problem
            assert await shown() == "first"

        new = authority.issue_server("second")
        replace(server_files["cert_file"], new.certificate)  # its key is still to come
        await rejected(1)
        replace(server_files["cert_file"], new.certificate[:200])
        await rejected(2)
        server_files["cert_file"].unlink()
        await rejected(3)
        replace(server_files["key_file"], b"")
        replace(server_files["cert_file"], new.certificate)
        await rejected(4)
        replace(server_files["key_file"], new.key)
        await served.logged("reloaded")
        assert await shown() == "second"
    assert len(served.lines("reload_rejected")) == 4
    assert "PRIVATE" not in served.log.getvalue()


async def test_clients_of_an_authority_that_is_dropped_do_not_come_back(
    authority: Authority, server_files: dict[str, Path], ca_file: Path, tmp_path: Path
) -> None:
    clients = tmp_path / "clients.crt"
    earlier, later = Authority("earlier"), Authority("later")
    clients.write_bytes(earlier.certificate + later.certificate)
    old = Tls(ca_file, *earlier.issue("old").write(tmp_path, "old"), server_name=SERVER_NAME)
    new = Tls(ca_file, *later.issue("new").write(tmp_path, "new"), server_name=SERVER_NAME)
    async with guarded(security={"tls": {**server_files, "client_ca_file": clients}}) as served:
        assert await score_once(served.address, old) == await score_once(served.address, new) == 0.75
        replace(clients, later.certificate)
        await served.logged("reloaded")
        with pytest.raises(Unavailable):
            await score_once(served.address, old)
        assert await score_once(served.address, new) == 0.75


async def test_a_client_takes_new_files_when_it_connects_anew(
    authority: Authority, server_files: dict[str, Path], ca_file: Path, tmp_path: Path
) -> None:
    own = authority.issue("before").write(tmp_path, "own")
    async with (
        guarded(security={"tls": {**server_files, "client_ca_file": ca_file}}) as served,
        client(served.address, Tls(ca_file, *own, server_name=SERVER_NAME)) as judge,
    ):
        await judge.score([ITEM])
        authority.issue("after").write(tmp_path, "own")
        await judge.disconnect()
        await judge.score([ITEM])
        own[0].unlink()
        await judge.disconnect()
        with pytest.raises(Unavailable, match=r"own\.crt"):
            await judge.score([ITEM])
        assert judge.version == VERSION
    callers = [line["caller"] for line in served.lines("call")]
    assert callers == ["before", "before", "after"]


async def test_files_that_come_back_unchanged_end_the_complaint(server_files: dict[str, Path], tmp_path: Path) -> None:
    async with guarded(security={"tls": server_files}) as served:
        content = server_files["key_file"].read_bytes()
        server_files["key_file"].unlink()
        await served.logged("reload_rejected")
        server_files["key_file"].write_bytes(content)
        await served.logged("reloaded")
        server_files["key_file"].unlink()
        await served.logged("reload_rejected", 2)
        assert len(served.lines("reloaded")) == 1
