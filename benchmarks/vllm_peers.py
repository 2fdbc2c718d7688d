"""Peers of benchmarks/vllm.py, each in processes of its own, frozen while another is measured:
`python -m benchmarks.vllm_peers sidecar|offline MODEL SETTINGS`, the settings as JSON. They print a line when they
serve; `offline` then reads names of files with prompts' ids and prints the seconds that each took."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil
import uvloop

from benchmarks import servers, workload
from themis_judge.engines.vllm import VLLMEngine, VLLMSettings
from themis_judge.engines.vllm.settings import environment
from themis_judge.judge import Judge

READY = "ready"


async def serve_sidecar(model: str, settings: dict[str, Any]) -> None:
    base = Judge(VLLMEngine(VLLMSettings(model, **settings)))
    await base.load()
    judge = workload.with_scenario(base, workload.scenario(base.asker.encoder))
    await judge.load()
    async with servers.serving(judge) as address:
        print(READY, address, flush=True)
        await asyncio.Event().wait()


def serve_offline(model: str, settings: dict[str, Any]) -> None:
    """vLLM's own `LLM.generate`, which is given all prompts at once."""
    from vllm import LLM, SamplingParams

    llm = LLM(model=model, disable_log_stats=True, **settings)
    print(READY, flush=True)
    for line in sys.stdin:
        asked = json.loads(Path(line.strip()).read_text(encoding="utf-8"))
        params = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=asked["labels"], detokenize=False)
        prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]
        began = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - began
        if any(not output.outputs[0].logprobs for output in outputs):
            raise RuntimeError("vLLM left prompts without an answer")
        print(seconds, flush=True)


class Peer:
    """One of them. Its log goes to a file, which is told of where it ends early."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        told = dict(os.environ) | dict(environment(VLLMSettings("", cpu_cache_gib=1)))
        self._log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env=told,
                cwd=servers.ROOT,
            )

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.line()

    def line(self) -> str:
        stream: IO[str] | None = self.process.stdout
        assert stream is not None
        told = stream.readline().strip()
        if not told:
            raise RuntimeError(f"a peer ended with code {self.process.wait()}; its log is {self._log}")
        return told

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Runs inside, and at no other time: an idle vLLM keeps a core busy."""
        for process in self._tree():
            process.resume()
        try:
            yield
        finally:
            self.freeze()

    def freeze(self) -> None:
        for process in self._tree():
            process.suspend()

    def end(self) -> None:
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def sidecar(model: str, settings: dict[str, Any], log: Path) -> tuple[Peer, str]:
    """The sidecar around the vLLM engine, and its address."""
    peer = Peer(_command("sidecar", model, settings), log)
    address = peer.line().removeprefix(READY).strip()
    peer.freeze()
    return peer, address


def offline(model: str, settings: dict[str, Any], log: Path) -> Peer:
    peer = Peer(_command("offline", model, settings), log)
    if peer.line() != READY:
        raise RuntimeError(f"the offline peer says something else; its log is {log}")
    peer.freeze()
    return peer


def http(model: str, flags: Sequence[str], log: Path) -> tuple[Peer, int]:
    """vLLM's own HTTP server, and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", str(port)]
    command += ["--host", "127.0.0.1", "--served-model-name", "m", "--disable-uvicorn-access-log", *flags]
    peer = Peer(command, log)
    while True:
        if peer.process.poll() is not None:
            raise RuntimeError(f"vLLM's HTTP server ended; its log is {log}")
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
            break
        time.sleep(0.5)
    peer.freeze()
    return peer, port


def _command(kind: str, model: str, settings: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.vllm_peers", kind, model, json.dumps(settings)]


def main() -> None:
    kind, model, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if kind == "sidecar":
        uvloop.run(serve_sidecar(model, settings))
    else:
        serve_offline(model, settings)


if __name__ == "__main__":
    main()
