"""A vLLM that dies or freezes: its callers hear of it, nothing of it is left, and the server ends for a clean one."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from themis_client import Client, Item, Score, Unavailable
from themis_client.retry import RetryPolicy
from themis_judge.engines.base import EngineUnavailable, Labels, Prompt, Sampling
from themis_judge.engines.vllm import VLLMEngine, VLLMSettings
from themis_sidecar.watchdog import ENGINE_FAILED

START_S = 200.0
FLAGS = ("--engine.kind", "vllm", "--engine.vllm.dtype", "float32", "--engine.vllm.enforce_eager", "true")


def wait_until(condition: Callable[[], bool], within_s: float) -> None:
    give_up_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def of_vllm(process: psutil.Process) -> list[psutil.Process]:
    """A process' engine and its workers, the engine first."""
    (engine,) = [child for child in process.children() if "resource_tracker" not in " ".join(child.cmdline())]
    return [engine, *engine.children(recursive=True)]


def score_for_ever(client: Client) -> None:
    for answer in itertools.count():
        client.score([Item("What is 2 + 2?", f"{answer}, a xylophone.", scenario="math")])


async def test_a_frozen_vllm_fails_its_callers_and_is_ended(tiny_model: Callable[..., Path]) -> None:
    settings = VLLMSettings(
        str(tiny_model("llama_wide")), dtype="float32", enforce_eager=True, cpu_cache_gib=1, stuck_after_s=3.0
    )
    engine = VLLMEngine(settings)
    await engine.load()
    processes = [one for one in psutil.Process().children(recursive=True) if one.pid in _pids(engine)]
    processes += [child for one in processes for child in one.children(recursive=True)]
    asked = Prompt((tuple(range(10, 60)),))
    assert (await engine.label_logprobs(asked, Labels(("a",), ((1,),)))).logprobs is not None
    for process in processes:
        process.suspend()
    tasks = [
        asyncio.create_task(engine.generate(asked, Sampling(100))),
        asyncio.create_task(engine.label_logprobs(asked, Labels(("a",), ((1,),)))),
    ]
    async with asyncio.timeout(60):
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, EngineUnavailable) and "no step" in str(one) for one in ended), ended
    assert engine.failure is not None
    assert "no step" in engine.failure
    with pytest.raises(EngineUnavailable, match="no step"):
        await engine.generate(asked, Sampling(1))
    gone, alive = await asyncio.to_thread(psutil.wait_procs, processes, 30)
    assert gone
    assert not alive
    await engine.unload()


def _pids(engine: VLLMEngine) -> set[int]:
    return {process.pid for process in engine._running.core._processes}


def test_kill_9_of_the_engine_process(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    ready, log = tmp_path / "ready", tmp_path / "log"
    command = [sys.executable, "-m", "themis_sidecar", "--engine.model", str(tiny_model("llama_wide")), *FLAGS]
    command += ["--engine.vllm.cpu_cache_gib", "1", "--listen.port", "0", "--judge.label_mass_threshold", "0"]
    with log.open("wb") as stream:
        process = subprocess.Popen([*command, "--ready-file", str(ready)], stdout=stream, stderr=stream)
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, START_S)
        assert process.poll() is None, log.read_text()
        vllm = of_vllm(psutil.Process(process.pid))
        with Client(ready.read_text().strip(), retry=RetryPolicy(attempts=1), timeout_s=30) as client:
            item = Item("What is 2 + 2?", "4, a xylophone.", scenario="math")
            assert isinstance(client.score([item])[0], Score)
            vllm[0].kill()
            with pytest.raises(Unavailable):
                score_for_ever(client)
        assert process.wait(60) == ENGINE_FAILED
        wait_until(lambda: not any(one.is_running() for one in vllm), 30)
        events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"')]
        assert any(event["event"] == "engine_failed" and "engine process" in event["reason"] for event in events)
        assert "xylophone" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def test_a_process_of_vllms_ends_with_a_killed_server() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.vllm_orphan"], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not child.is_running(), 30)
