"""The judge's double on an event loop in a process of its own: what blocking clients and forks are tested against.

A process and not a thread, since a second event loop running grpc.aio beside the client's own would disturb it, and
gRPC servers don't survive a fork.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.unit.client.judge_double import JudgeDouble, failed, judged, serving
from themis_proto.v1 import judge_pb2 as pb

ROOT = Path(__file__).parents[3]


def _result(item: pb.Item, version: str, _: int) -> pb.Result:
    bad = item.key == "bad"
    return failed(item, version, pb.ITEM_STATUS_OFF_FORMAT) if bad else judged(item, version)


async def _serve() -> None:
    async with serving(JudgeDouble(versions=("v1", "v2"), result=_result)) as address:
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def judge_process() -> Iterator[str]:
    """Gives its address; ends it by closing its standard input."""
    command = [sys.executable, "-m", "tests.unit.client.judge_process"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("")


if __name__ == "__main__":
    asyncio.run(_serve())
