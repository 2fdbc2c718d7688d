"""TLS settings and token files of the client."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from themis_client import AsyncClient, Client, Tls
from themis_client.channels import Connector
from themis_client.credentials import TokenFile


def token_of(connector: Connector) -> str:
    [(key, value)] = connector.metadata
    assert key == "authorization"
    return value


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(" first\n")
    connector = Connector(token_file=TokenFile(path))
    assert token_of(connector) == "Bearer first"
    path.write_text("second, no: a token has no spaces")
    assert token_of(connector) == "Bearer first"
    path.write_text("second")
    assert token_of(connector) == "Bearer second"
    path.unlink()
    assert token_of(connector) == "Bearer second"
    (tmp_path / "new").write_text("third")
    os.utime(tmp_path / "new", (0, 0))  # older than what was there before
    (tmp_path / "new").rename(path)
    assert token_of(connector) == "Bearer third"


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"tok\xc3\xa9n", b"a\x00b", b"a\r\nb"])
def test_what_is_no_token(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"token|ascii"):
        TokenFile(path)


def test_what_is_wrong_is_known_when_the_client_is_made(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    with pytest.raises(FileNotFoundError):
        AsyncClient(token_file=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        AsyncClient(tls=Tls(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="cert_file and key_file"):
        Tls(cert_file="x")
    with pytest.raises(ValueError, match="token or token_file"):
        AsyncClient(token="t", token_file=token)


def test_no_secret_shows(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret-token")
    assert "secret" not in repr(Connector(token="secret-token")) + repr(Connector(token_file=TokenFile(path)))


def test_a_pickled_client_takes_files_not_secrets(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret-token")
    (tmp_path / "ca.crt").write_text("x")
    with Client(token_file=path, tls=Tls(tmp_path / "ca.crt", server_name="n")) as client:
        pickled = pickle.dumps(client)
        assert b"secret-token" not in pickled
        pickle.loads(pickled).close()
