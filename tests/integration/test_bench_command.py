"""The command `themis bench` in a process of its own, as people run it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.pictures import size_of
from tests.integration.security_parts import SERVER_NAME, Authority, entry, write_callers
from tests.integration.sidecar_fakes import VERSION
from tests.integration.sidecar_running import running, until
from themis_client.bench import picture
from themis_client.bench.run import INTERRUPTED
from themis_client.cli import BAD_INPUT, NO_SERVER, OK, SOME_FAILED

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "themis_client.cli", "bench"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_command(tmp_path: Path) -> None:
    out, drawn = tmp_path / "run.json", tmp_path / "run.png"
    with running(tmp_path) as served:
        short = ["-s", served.address, "--warmup", "0", "--prompt-words", "3-5"]
        done = run(*short, "--items", "30", "--callers", "2", "--out", str(out), "--picture", str(drawn))
        assert done.returncode == OK, done.stderr
        assert "30 OK" in done.stdout
        assert f"versions  {VERSION} (30)" in done.stdout
        assert json.loads(out.read_text())["summary"]["items"] == 30
        assert size_of(drawn.read_bytes()) == (picture.WIDTH_PX, picture.HEIGHT_PX)
        assert json.loads(out.read_text())["shape"]["run"]
        again = run(*short, "--items", "8", "--repeat-texts", "--stream", "--out", str(out))
        assert again.returncode == OK
        assert json.loads(out.read_text())["shape"]["run"] == ""


def test_the_command_shows_its_token_and_checks_the_server(tmp_path: Path) -> None:
    authority = Authority("authority")
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    certificate, key = authority.issue_server("server").write(tmp_path, "server")
    callers = write_callers(tmp_path / "callers.yaml", entry("trainer", "token-51d0"))
    token = tmp_path / "token"
    guard = ["--security.tls.cert_file", str(certificate), "--security.tls.key_file", str(key)]
    with running(tmp_path, *guard, "--security.callers_file", str(callers)) as served:
        short = ["-s", served.address, "--warmup", "0", "--items", "8", "--tls-server-name", SERVER_NAME]
        token.write_text("token-51d0\n")
        done = run(*short, "--tls-ca", str(tmp_path / "ca.crt"), "--token-file", str(token))
        assert done.returncode == OK, done.stderr
        assert "8 OK" in done.stdout
        token.write_text("another\n")
        done = run(*short, "--tls-ca", str(tmp_path / "ca.crt"), "--token-file", str(token))
        assert done.returncode == NO_SERVER
        assert "Refused" in done.stderr
        token.write_text("\n")
        done = run(*short, "--tls-ca", str(tmp_path / "ca.crt"), "--token-file", str(token))
        assert done.returncode == BAD_INPUT
        assert "holds no token" in done.stderr
        assert "Traceback" not in done.stderr
        assert [line["caller"] for line in served.events("call") if line["method"] == "Score"] == ["trainer"]


def test_ctrl_c_tells_what_was_seen(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    with running(tmp_path) as served:
        command = [
            *COMMAND,
            "-s",
            served.address,
            "--warmup",
            "0",
            "--duration",
            "100",
            "--rate",
            "50",
            "--out",
            str(out),
        ]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as bench_run:
            assert bench_run.stderr is not None
            assert bench_run.stdout is not None
            assert "measuring" in bench_run.stderr.readline()
            until(lambda: len([line for line in served.events("call") if line["method"] == "Score"]) >= 5, served.log)
            bench_run.send_signal(signal.SIGINT)
            shown = bench_run.stdout.read()
            assert bench_run.wait(60) == OK
    assert "interrupted" in shown
    assert json.loads(out.read_text())["stopped"] == INTERRUPTED


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], OK, "how to use it"),
        (["--prompt-words", "5-2"], BAD_INPUT, "'5-2' is not a number of words from 1 on, nor LOW-HIGH"),
        (["--callers", "0"], BAD_INPUT, "'0' is not a whole number from 1 on"),
        (["--rate", "nan"], BAD_INPUT, "'nan' is not a number above 0"),
        (["--picture", "run.bmp"], BAD_INPUT, "ends neither in .png nor in .svg"),
        (["--duration", "3", "--items", "3"], BAD_INPUT, "not allowed with"),
        (["--out", "/nowhere/run.json"], BAD_INPUT, "/nowhere/run.json"),
        (["-s", "127.0.0.1:9"], NO_SERVER, "UNAVAILABLE"),
        (["-s", ","], BAD_INPUT, "no address in ','"),
    ],
)
def test_usage(arguments: list[str], code: int, said: str) -> None:
    done = run(*arguments)
    assert said in done.stdout + done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("missing", "arguments", "said"),
    [
        ("rich", [], "themis bench needs rich: pip install 'themis-sidecar[cli]'"),
        ("matplotlib", ["--picture", "x.png"], "--picture needs matplotlib: pip install 'themis-sidecar[plot]'"),
    ],
)
def test_what_is_not_installed_is_said_before_anything_is_sent(missing: str, arguments: list[str], said: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from themis_client.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "bench", "-s", "127.0.0.1:9", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == BAD_INPUT
    assert said in done.stderr


def test_exit_codes_of_runs_that_did_not_go_well(tmp_path: Path) -> None:
    with running(tmp_path, "--limits.max_item_bytes", "300") as served:
        drawn = tmp_path / "run.png"
        tiny = ["-s", served.address, "--prompt-words", "1", "--response-words", "1"]
        done = run(*tiny, "--warmup", "60", "--timeout", "0.5", "--picture", str(drawn))
        assert done.returncode == SOME_FAILED, done.stderr
        assert "nothing was measured" in done.stdout
        assert drawn.exists()
        unfit = run("-s", served.address, "--warmup", "0", "--items", "1000000", "--timeout", "0.5")
        assert unfit.returncode == SOME_FAILED, unfit.stderr
        assert "the run ended early (--timeout 0.5)" in unfit.stdout
        assert "as many items as one run may keep" not in unfit.stdout
        short = ["-s", served.address, "--warmup", "0", "--items", "40"]
        done = run(*short, "--prompt-words", "1", "--response-words", "1-90")
        assert done.returncode == SOME_FAILED, done.stderr
        assert "INVALID" in done.stdout
        done = run(*short, "--prompt-words", "1", "--response-words", "1", "--version", "v3")
        assert done.returncode == BAD_INPUT
        assert "v3" in done.stderr
