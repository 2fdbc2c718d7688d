"""An engine that dies is restarted: the process ends, a parent starts the next one, callers wait or go elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.sidecar_running import ROOT, Running, events, free_port, running, until
from themis_client import Client, Item, RetryPolicy, Unavailable
from themis_sidecar.supervisor import NOT_STARTED
from themis_sidecar.watchdog import ENGINE_FAILED

SUPERVISED = "tests.integration.sidecar_supervised"
WAIT_S = 60.0
ITEM = Item("a question", "an answer")
PATIENT = RetryPolicy(attempts=1000, base_s=0.1, cap_s=0.5)
ONCE = RetryPolicy(attempts=1)


def child_of(served: Running) -> int:
    """The pid of the server that its supervisor started last."""
    pid: int = served.events("started")[-1]["pid"]
    return pid


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for by its parent or not."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_calls_get_unavailable_while_a_failed_engine_is_replaced_and_are_served_after(tmp_path: Path) -> None:
    flags = ["--supervisor.first_wait_s", "0", "--limits.flush_s", "0"]
    with (
        running(tmp_path, *flags, module=SUPERVISED, port=free_port()) as served,
        Client(served.address, retry=PATIENT, timeout_s=WAIT_S) as patient,
        Client(served.address, retry=ONCE) as impatient,
        ThreadPoolExecutor(1) as threads,
    ):
        assert patient.score([ITEM])[0].ok
        assert impatient.score([ITEM])[0].ok
        child = child_of(served)
        served.send(signal.SIGSTOP)  # so that the next server doesn't start before it is missed
        os.kill(child, signal.SIGUSR2)  # the engine fails
        until(lambda: gone(child), served.log)
        waiting = threads.submit(patient.score, [ITEM])
        with pytest.raises(Unavailable):
            impatient.score([ITEM])
        served.send(signal.SIGCONT)
        assert waiting.result(WAIT_S)[0].ok  # its retries outlast the restart
        assert [line["exit_code"] for line in served.events("restarting")] == [ENGINE_FAILED]
        assert len(served.events("engine_failed")) == 1
        assert len(served.events("started")) == 2
        assert served.stop() == 0


def test_a_signal_drains_the_server_once(tmp_path: Path) -> None:
    with (
        running(tmp_path, module=SUPERVISED) as served,
        Client(served.address) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        child = child_of(served)
        held = threads.submit(client.score, [Item("a question", "an answer", key="hold")])
        assert client.score([Item("a question", "an answer", key="after hold")], timeout_s=WAIT_S)[0].ok
        served.send(signal.SIGTERM)
        until(lambda: bool(served.events("draining")), served.log)
        os.kill(child, signal.SIGUSR1)  # lets go of what is held
        assert held.result(WAIT_S)[0].ok
        assert served.process.wait(WAIT_S) == 0
        assert not psutil.pid_exists(child)
        [stopped] = served.events("stopped")
        assert (stopped["phase"], stopped["calls_cut_off"]) == ("serving", False)


def test_a_supervisor_that_is_killed_takes_its_server_along(tmp_path: Path) -> None:
    with running(tmp_path, module=SUPERVISED) as served:
        child = child_of(served)
        served.process.kill()
        served.process.wait()
        until(lambda: gone(child), served.log)


def test_a_server_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with (
        running(tmp_path, "--supervisor.first_wait_s", "0", module=SUPERVISED, port=free_port()) as served,
        Client(served.address, retry=PATIENT, timeout_s=WAIT_S) as client,
    ):
        first = child_of(served)
        os.kill(first, signal.SIGKILL)
        until(lambda: len(served.events("started")) == 2, served.log)
        assert client.score([ITEM])[0].ok
        assert [line["exit_code"] for line in served.events("restarting")] == [128 + signal.SIGKILL]
        assert child_of(served) != first


def test_a_server_that_is_killed_is_not_ready_while_the_next_one_is_waited_for(tmp_path: Path) -> None:
    with running(tmp_path, "--supervisor.first_wait_s", "3600", "--supervisor.longest_wait_s", "3600",
                 module=SUPERVISED) as served:  # fmt: skip
        os.kill(child_of(served), signal.SIGKILL)
        until(lambda: not (tmp_path / "ready").exists(), served.log)
        until(lambda: bool(served.events("restarting")), served.log)
        assert served.stop() == 128 + signal.SIGKILL


# ------------------------------------------------------------------------------------------- when it stops trying


async def supervised(code: str, log: Path, interpreter: str = sys.executable, **config: Any) -> int:
    """The exit code of a supervisor around a process that runs `code`."""
    settings = json.dumps({"first_wait_s": 0.01, "longest_wait_s": 0.02} | config)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.supervising", code, str(log), settings, interpreter, cwd=ROOT
    )
    return await asyncio.wait_for(process.wait(), WAIT_S)


async def test_it_gives_up_after_quick_failures(tmp_path: Path) -> None:
    assert await supervised("raise SystemExit(3)", tmp_path / "log", quick_failures=4) == 3
    assert len(events(tmp_path / "log", "started")) == 4
    assert [line["wait_s"] for line in events(tmp_path / "log", "restarting")] == [0.01, 0.02, 0.02]
    [line] = events(tmp_path / "log", "gave_up")
    assert (line["exit_code"], line["failures"]) == (3, 4)


async def test_failures_after_a_long_life_do_not_add_up(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    code = f"p = {str(counter)!r}; open(p, 'a').write('x'); raise SystemExit(0 if len(open(p).read()) == 6 else 70)"
    assert await supervised(code, tmp_path / "log", quick_failures=1, quick_s=1e-6) == 0
    assert len(events(tmp_path / "log", "started")) == 6
    assert {(line["failures"], line["wait_s"]) for line in events(tmp_path / "log", "restarting")} == {(0, 0.01)}


async def test_a_start_that_the_system_refuses_is_a_quick_failure(tmp_path: Path) -> None:
    log, nowhere = tmp_path / "log", str(tmp_path / "no interpreter")
    assert await supervised("", log, nowhere, quick_failures=3, quick_s=1e-9) == NOT_STARTED
    assert [line["error"].partition(":")[0] for line in events(log, "not_started")] == ["FileNotFoundError"] * 3
    assert [line["failures"] for line in events(log, "restarting")] == [1, 2]
    assert [line["failures"] for line in events(log, "gave_up")] == [3]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells a process that its parent is gone")
@pytest.mark.parametrize(("parent", "code"), [("os.getppid()", 0), ("-1", NOT_STARTED)])
def test_a_server_whose_parent_was_killed_before_it_began_does_not_begin(parent: str, code: int) -> None:
    program = (
        "import ctypes, os; from themis_sidecar.supervisor import end_with_parent; "
        f"end_with_parent(ctypes.CDLL(None), {parent})"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=WAIT_S).returncode == code


@pytest.mark.parametrize("code", [0, 2])
async def test_what_another_start_would_not_change(tmp_path: Path, code: int) -> None:
    assert await supervised(f"raise SystemExit({code})", tmp_path / "log") == code
    assert len(events(tmp_path / "log", "started")) == 1


def test_bad_settings_are_told_by_the_supervisor_itself() -> None:
    command = [
        sys.executable,
        "-m",
        "themis_sidecar",
        "--supervise",
        "--engine.model",
        "x",
        "--supervisor.quick_s",
        "0",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "supervisor.quick_s" in done.stderr


def test_the_command_itself(tmp_path: Path) -> None:
    """The real command around scenarios that aren't there: started as often as was said, then given up."""
    command = [sys.executable, "-m", "themis_sidecar", "--supervise", "--engine.model", "x"]
    command += ["--judge.scenario_dirs", str(tmp_path / "nothing")]
    command += ["--supervisor.quick_failures", "2", "--supervisor.first_wait_s", "0", "--listen.port", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count('"event": "started"') == 2
    assert done.stderr.count("themis-sidecar: ") == 2
    assert '"event": "gave_up"' in done.stderr
