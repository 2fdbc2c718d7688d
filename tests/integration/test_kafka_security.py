"""`themis-pipeline topics check` against listeners that want to know who calls, and what it says of settings that are
wrong."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import JARS
from tests.integration.kafka_secured import KEY_PASSWORD, NAME, PASSWORD, Secured, secured_broker
from themis_pipeline.__main__ import main
from themis_pipeline.config import KafkaConfig, SaslConfig
from themis_pipeline.kafka.connection import connection
from themis_pipeline.kafka.seam import TransportError
from themis_pipeline.kafka.transport import KafkaTransport, TransportLimits
from themis_pipeline.topics import TABLE

Settings = Mapping[str, object]
Check = Callable[[str, Settings], tuple[int, list[str], str]]

# kafka-python doesn't close the socket of a handshake that failed (3.0.12).
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

REACHED = (1, len(TABLE))
"""Exit code and lines where the topics were looked for, and weren't there."""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_broker(tmp_path_factory.mktemp("secured"), JARS) as made:
        yield made


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    """`check(address, settings)` gives exit code, lines of output and what was complained about."""

    def run(address: str, settings: Settings) -> tuple[int, list[str], str]:
        for name, value in settings.items():
            monkeypatch.setenv(f"THEMIS_PIPELINE_KAFKA__{name}", str(value))
        where = ("--kafka.bootstrap_servers", address, "--kafka.bootstrap_timeout_s", "3")
        code = main(["topics", "check", *where])
        said = capsys.readouterr()
        gc.collect()
        for name in settings:
            monkeypatch.delenv(f"THEMIS_PIPELINE_KAFKA__{name}")
        return code, said.out.splitlines(), said.err

    return run


def tls(secured: Secured) -> dict[str, object]:
    return {"TLS__ENABLED": "true", "TLS__CA_FILE": secured.ca_file}


def sasl(mechanism: str = "SCRAM-SHA-512", name: str = NAME, password: str = PASSWORD) -> dict[str, object]:
    return {"SASL__MECHANISM": mechanism, "SASL__USERNAME": name, "SASL__PASSWORD": password}


def certificate(cert_file: Path, key_file: Path) -> dict[str, object]:
    return {"TLS__CERT_FILE": cert_file, "TLS__KEY_FILE": key_file}


def test_by_name_and_password(check: Check, secured: Secured) -> None:
    for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"):
        code, lines, complaint = check(secured.by_password, {**tls(secured), **sasl(mechanism)})
        assert ((code, len(lines)), complaint) == (REACHED, "")


def test_by_certificate(check: Check, secured: Secured) -> None:
    own = {**tls(secured), **certificate(secured.cert_file, secured.key_file)}
    code, lines, complaint = check(secured.by_certificate, own)
    assert ((code, len(lines)), complaint) == (REACHED, "")
    locked = {**tls(secured), **certificate(secured.cert_file, secured.locked_key_file)}
    code, lines, complaint = check(secured.by_certificate, {**locked, "TLS__KEY_PASSWORD": KEY_PASSWORD})
    assert ((code, len(lines)), complaint) == (REACHED, "")


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_a_wrong_password_is_called_that(check: Check, secured: Secured, mechanism: str) -> None:
    code, lines, complaint = check(secured.by_password, {**tls(secured), **sasl(mechanism, password="another")})
    assert (code, lines) == (3, [])
    assert "kafka.sasl.username" in complaint
    assert "kafka.sasl.password" in complaint
    assert "another" not in complaint


def test_a_stage_says_it_too(secured: Secured) -> None:
    config = KafkaConfig.model_validate(
        {
            "bootstrap_servers": (secured.by_password,),
            "tls": {"enabled": True, "ca_file": secured.ca_file},
            "sasl": SaslConfig.model_validate({"mechanism": "SCRAM-SHA-512", "username": NAME, "password": "another"}),
        }
    )
    transport = KafkaTransport(connection(config), TransportLimits(connect_timeout_s=3))
    with pytest.raises(TransportError, match=r"kafka\.sasl\.password") as caught:
        transport.producer("stage-0")
    gc.collect()
    assert "another" not in str(caught.value)


def test_settings_that_do_not_fit_the_listener(check: Check, secured: Secured) -> None:
    """What the broker says, or that it says nothing, names what to look at."""
    own = certificate(secured.cert_file, secured.key_file)
    other_ca = {**tls(secured), "TLS__CA_FILE": secured.other_ca_file}
    stranger = certificate(secured.stranger_cert_file, secured.stranger_key_file)
    wrong: list[tuple[str, Settings, str]] = [
        (secured.by_password, {**other_ca, **sasl()}, "kafka.tls.ca_file"),
        (secured.by_password, {"TLS__ENABLED": "true", **sasl()}, "kafka.tls.ca_file"),
        (secured.by_password.replace("localhost", "127.0.0.1"), {**tls(secured), **sasl()}, "kafka.bootstrap_servers"),
        (secured.by_password, tls(secured), "kafka.sasl.mechanism"),
        (secured.by_password, sasl(), "kafka.tls.enabled"),
        (secured.by_certificate, tls(secured), "kafka.tls.cert_file"),
        (secured.by_certificate, {**tls(secured), **stranger}, "kafka.tls.cert_file"),
        (secured.by_certificate, {**tls(secured), **own, **sasl()}, "kafka.sasl.mechanism"),
        (secured.by_certificate, {}, "kafka.tls.enabled"),
        (secured.plain, tls(secured), "kafka.tls.enabled"),
    ]
    told = [(blamed, *check(address, settings)) for address, settings, blamed in wrong]
    assert [one for one in told if one[1:3] != (3, []) or one[0] not in one[3] or PASSWORD in one[3]] == []


def test_files_that_can_not_be_used_are_told_at_once(check: Check, secured: Secured, tmp_path: Path) -> None:
    """Without any broker: nothing is tried."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        (tmp_path / "no.crt").write_text("nothing")
        absent = {**tls(secured), "TLS__CA_FILE": tmp_path / "absent.crt"}
        locked = {**tls(secured), **certificate(secured.cert_file, secured.locked_key_file)}
        wrong: list[tuple[Settings, str]] = [
            (absent, "kafka.tls.ca_file"),
            ({**tls(secured), "TLS__CA_FILE": tmp_path / "no.crt"}, "kafka.tls.ca_file"),
            (locked, "key_password"),
            ({**locked, "TLS__KEY_PASSWORD": "another"}, "key_password"),
            ({**tls(secured), **certificate(secured.cert_file, secured.stranger_key_file)}, "key_file"),
        ]
        told = [(blamed, *check(address, settings)) for settings, blamed in wrong]
        assert [one for one in told if one[1:3] != (2, []) or one[0] not in one[3]] == []
