"""Servers for benchmarks, each in a process of its own: `python -m benchmarks.servers KIND MODEL`.

`echo` answers each call with a ready answer of the right size; `instant` is the real server around an engine that
answers at once; `judge` is the real server around the model in bfloat16; `one_by_one` is what people write first. Each
prints its address when it serves.
"""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import grpc
import uvloop
from transformers import AutoTokenizer

from benchmarks import one_by_one, workload
from themis_judge.engines.base import (
    NO_DEADLINE,
    Deadline,
    EngineInfo,
    Generation,
    Labels,
    LabelScores,
    Likelihood,
    Prompt,
    Sampling,
    Unsupported,
    Usage,
)
from themis_judge.engines.tokenizer import HFTokenizer
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.judge import Judge
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc
from themis_sidecar.config import EngineConfig, ListenConfig, LogConfig, ServerConfig
from themis_sidecar.logs import make_logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.server import Server
from themis_sidecar.versions.assembly import Fixed

ROOT = Path(__file__).parent.parent
MESSAGE_BYTES = 64 << 20
_LOGPROBS = (-2.0, -1.5, -1.0, -2.5, -3.0)


class InstantEngine:
    """Tokenises like the small model and answers every question at once."""

    failure = None

    def __init__(self, model: str) -> None:
        self.tokenizer = HFTokenizer(AutoTokenizer.from_pretrained(model))
        self.info = EngineInfo("instant", "instant", 8192)

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        return LabelScores(_LOGPROBS[: len(labels.texts)], Usage(len(prompt)))

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation:
        raise Unsupported("the instant engine writes nothing")

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], deadline: Deadline = NO_DEADLINE
    ) -> Likelihood:
        raise Unsupported("the instant engine tells no likelihoods")


async def instant_judge(model: str) -> Judge:
    return await with_bench(Judge(InstantEngine(model)))


async def with_bench(base: Judge) -> Judge:
    """A loaded judge that knows the benchmark's scenario, on the engine of `base`."""
    await base.load()
    judge = workload.with_scenario(base, workload.scenario(base.asker.encoder))
    await judge.load()
    return judge


def stub_of(channel: grpc.aio.Channel) -> judge_pb2_grpc.JudgeServiceAsyncStub:
    # The stubs know two classes where there is one at run time.
    return cast("judge_pb2_grpc.JudgeServiceAsyncStub", judge_pb2_grpc.JudgeServiceStub(channel))


class Echo(judge_pb2_grpc.JudgeServiceServicer):  # methods that nobody calls are left out
    """Answers with one ready result per item, copied from a real answer."""

    def __init__(self, result: pb.Result) -> None:
        self._answers = {count: pb.ScoreResponse(results=[result] * count) for count in (1, 16)}

    async def Score(self, request: pb.ScoreRequest, context: object) -> pb.ScoreResponse:  # noqa: N802
        return self._answers[len(request.items)]

    async def Describe(self, request: pb.DescribeRequest, context: object) -> pb.DescribeResponse:  # noqa: N802
        return pb.DescribeResponse()


async def serve_echo(model: str) -> None:
    judge = await instant_judge(model)
    sample = workload.workload(judge.asker.encoder, judge.scenarios[workload.SCENARIO], 1, 1, 300, 0)
    async with serving(judge) as address, grpc.aio.insecure_channel(address) as channel:
        answer = await stub_of(channel).Score(workload.request(sample.items))
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MESSAGE_BYTES)])
    judge_pb2_grpc.add_JudgeServiceServicer_to_server(Echo(answer.results[0]), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


async def serve_instant(model: str) -> None:
    async with serving(await instant_judge(model)) as address:
        print(address, flush=True)
        await asyncio.Event().wait()


async def serve_judge(model: str) -> None:
    judge = Judge(TransformersEngine(TransformersSettings(model, dtype="bfloat16")))
    async with serving(await with_bench(judge)) as address:
        print(address, flush=True)
        await asyncio.Event().wait()


async def serve_one_by_one(model: str) -> None:
    judge = await instant_judge(model)
    await one_by_one.serve(one_by_one.OneByOne(model, judge.asker.encoder, judge.scenarios[workload.SCENARIO]))


@asynccontextmanager
async def serving(judge: Judge) -> AsyncIterator[str]:
    """The real server around a loaded judge, in this process; its log goes nowhere."""
    config = ServerConfig(
        engine=EngineConfig(model="benchmark"), listen=ListenConfig(port=0), log=LogConfig(level="error")
    )
    telemetry, logger = Telemetry.untraced("benchmark"), make_logger(config.log, io.StringIO())
    parts = Fixed.make(judge, config, logger, telemetry)
    parts.supply.admit()
    server = Server(parts, config, logger, "benchmark", telemetry)
    address = await server.start()
    await server.serve()
    try:
        yield address
    finally:
        await server.stop()


def start(kind: str, model: str) -> tuple[subprocess.Popen[str], str]:
    """The process of one of these servers, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.servers", kind, model], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    if not address:
        raise RuntimeError(f"the {kind} server ended with code {process.wait()}")
    return process, address


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


KINDS = {"echo": serve_echo, "instant": serve_instant, "judge": serve_judge, "one_by_one": serve_one_by_one}

if __name__ == "__main__":
    uvloop.run(KINDS[sys.argv[1]](sys.argv[2]))
