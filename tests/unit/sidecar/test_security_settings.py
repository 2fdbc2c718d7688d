"""Files of callers, settings of security, the table of access, and decisions for HTTP."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from themis_proto.v1 import judge_pb2
from themis_sidecar.config import LogConfig, SecurityConfig, read_command_line
from themis_sidecar.errors import Forbidden, Unauthenticated
from themis_sidecar.logs import make_logger
from themis_sidecar.security.access import Access, Open
from themis_sidecar.security.authentication import Authenticator, check_http
from themis_sidecar.security.callers import NOBODY, Caller, Role
from themis_sidecar.security.environment import check_environment
from themis_sidecar.security.errors import SecurityError
from themis_sidecar.security.files import MAX_FILE_BYTES, FileValue
from themis_sidecar.security.limits import CallerLimits, LimitBook
from themis_sidecar.security.tokens import Callers, parse_callers

MODEL = ["--engine.model", "m"]
CALLERS = ["--security.callers_file", "c"]
TOKEN = "token-71c3"
DIGEST = "8cd5e4a4f8e0ac5d6a7cdf8d3bd0ba9ed8e4e4c1a2c3f6d4a8d2f0f4a3b2c1d0"
OTHER_DIGEST = DIGEST[::-1]


def entry(**fields: Any) -> dict[str, Any]:
    return {"name": "a", "role": "score", "sha256": [DIGEST]} | fields


def parse(*entries: Any) -> Callers:
    return parse_callers("callers.yaml", (yaml.safe_dump({"callers": list(entries)}).encode(),))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], "callers: Tuple should have at least 1 item"),
        ([entry(role="root")], r"callers\.0\.role"),
        ([entry(name="")], r"callers\.0\.name"),
        ([entry(name="two\nlines")], r"callers\.0\.name"),
        ([entry(name="anonymous")], "anonymous is taken"),
        ([entry(sha256=["abc"])], r"callers\.0\.sha256\.0"),
        ([entry(sha256=[])], "neither sha256 nor certificates"),
        ([entry(sha256=[f"{number:064x}" for number in range(5)])], "at most 4"),
        ([entry(token=TOKEN)], r"callers\.0\.token: Extra inputs"),
        ([entry(limits={"max_items": 0})], r"callers\.0\.limits\.max_items"),
        ([entry(limits={"queue_share": 1.5})], r"callers\.0\.limits\.queue_share"),
        ([entry(), entry(sha256=[OTHER_DIGEST])], "name stands twice: see a, a"),
        ([entry(), entry(name="b")], "sha256 stands twice: see a, b"),
        ([entry(certificates=["x"]), entry(name="b", sha256=[], certificates=["x"])], "certificates stands twice"),
    ],
)
def test_what_a_file_of_callers_may_not_say(entries: list[Any], said: str) -> None:
    with pytest.raises(SecurityError, match=said) as caught:
        parse(*entries)
    assert "callers.yaml" in str(caught.value)
    assert DIGEST not in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("content", [b"callers: [", b"\xff\xfe\x00", b"- a", b"!!python/object:os.system {}", b""])
def test_what_is_no_file_of_callers(content: bytes) -> None:
    with pytest.raises(SecurityError, match=r"callers\.yaml"):
        parse_callers("callers.yaml", (content,))


def test_the_shell_line_of_the_documentation_makes_a_digest(tmp_path: Path) -> None:
    """printf %s "$token" | sha256sum: no new line at the end."""
    callers = parse(entry(sha256=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]))
    assert callers.by_token("test") == Caller("a", Role.SCORE)
    assert callers.by_token("test\n") is None
    assert callers.by_token("täst\udcff") is None
    assert "9f86" not in repr(callers)


def test_limits_of_a_caller_go_before_those_of_all() -> None:
    callers = parse(entry(limits={"max_items": 3, "tokens_per_s": 7}), entry(name="b", sha256=[OTHER_DIGEST]))
    config = SecurityConfig.model_validate({"caller_limits": {"max_items": 10, "max_calls": 20, "burst_s": 2}})
    book = LimitBook(config.caller_limits, lambda: callers)
    assert book.of("a") == CallerLimits(max_calls=20, max_items=3, tokens_per_s=7, burst_tokens=14)
    assert book.of("b") == book.of("anonymous") == CallerLimits(max_calls=20, max_items=10)
    assert LimitBook(config.caller_limits, None).of("a").max_items == 10


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--security.callers_file", "c", "--listen.host", "0.0.0.0"], "plaintext to 0.0.0.0"),
        (["--security.callers_file", "c", "--listen.host", "::"], "plaintext to ::"),
        (["--security.callers_file", "c", "--listen.host", "judge.example"], "plaintext to judge.example"),
        (["--security.tls.cert_file", "c"], "cert_file and key_file"),
        (["--security.tls.client_ca_file", "c"], "needs cert_file and key_file"),
    ],
)
def test_settings_that_are_refused(flags: list[str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        read_command_line([*MODEL, *flags])


@pytest.mark.parametrize(
    "flags",
    [
        ["--listen.host", "0.0.0.0"],
        ["--security.callers_file", "c"],
        ["--security.callers_file", "c", "--listen.host", "::1"],
        ["--security.callers_file", "c", "--listen.host", "0.0.0.0", "--security.plaintext_tokens", "true"],
        [
            *("--security.callers_file", "c", "--listen.host", "0.0.0.0"),
            *("--security.tls.cert_file", "c", "--security.tls.key_file", "k"),
        ],
    ],
)
def test_settings_that_are_not(flags: list[str]) -> None:
    read_command_line([*MODEL, *flags])


def test_every_method_of_the_contract_asks_for_a_role() -> None:
    access = Access()
    for service in judge_pb2.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            assert access.need(f"/{service.full_name}/{method.name}") is Role.SCORE
    assert access.need("/grpc.health.v1.Health/Watch") is Open.OPEN
    for path in ("", "/", "themis.v1.JudgeService/Score", "/themis.v1.JudgeService", "//themis.v1.JudgeService/Score"):
        assert access.need(path) is None
    assert access.need("/themis.v1.VersionService/List/x") is Role.ADMIN


def http(callers: Callers | None, host: str = "0.0.0.0", **config: Any) -> Authenticator:
    return Authenticator(SecurityConfig(**config), host, None if callers is None else lambda: callers)


def test_http_takes_the_same_tokens() -> None:
    test = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    guard = http(parse(entry(sha256=[test])))
    assert check_http(guard, ["Bearer test"], Role.SCORE) == Caller("a", Role.SCORE)
    assert check_http(guard, [], Open.OPEN) == check_http(guard, ["Bearer x"], Open.OPEN) == NOBODY
    with pytest.raises(Forbidden):
        check_http(guard, ["Bearer test"], Role.ADMIN)
    for wrong in ([], ["Bearer x"], ["test"], ["Bearer test", "Bearer test"], ["Basic dGVzdA=="]):
        with pytest.raises(Unauthenticated):
            check_http(guard, wrong, Role.SCORE)


def test_http_where_nothing_or_only_certificates_authenticate() -> None:
    assert check_http(http(None), [], Role.SCORE).role is Role.SCORE
    with pytest.raises(Forbidden):
        check_http(http(None), [], Role.ADMIN)
    assert check_http(http(None, "127.0.0.1"), [], Role.ADMIN).role is Role.ADMIN
    tls = {"cert_file": "c", "key_file": "k", "client_ca_file": "a"}
    with pytest.raises(Unauthenticated):
        check_http(http(None, tls=tls), [], Role.SCORE)


def test_a_file_that_is_missing_or_huge_stops_the_start(tmp_path: Path) -> None:
    logger = make_logger(LogConfig(), io.StringIO())
    with pytest.raises(SecurityError, match=r"nowhere: No such file"):
        FileValue("x", [tmp_path / "nowhere"], lambda contents: contents, logger)
    huge = tmp_path / "huge"
    huge.write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    with pytest.raises(SecurityError, match=r"huge: is larger"):
        FileValue("x", [huge], lambda contents: contents, logger)


@pytest.mark.parametrize(
    ("flags", "let_through"),
    [([], False), (["--log.log_text", "true"], True), (["--log.log_text", "true", *CALLERS], False), (CALLERS, False)],
)
def test_grpcs_traces_stop_the_start(flags: list[str], let_through: bool) -> None:
    config = read_command_line([*MODEL, *flags]).config
    check_environment({"GRPC_VERBOSITY": "debug", "GRPC_TRACE": ""}, config)
    if let_through:
        check_environment({"GRPC_TRACE": "http"}, config)
    else:
        with pytest.raises(SecurityError, match="GRPC_TRACE is set"):
            check_environment({"GRPC_TRACE": "http"}, config)
