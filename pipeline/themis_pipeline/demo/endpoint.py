"""Serves the small model by OpenAI's chat API until it is told to stop: `python -m themis_pipeline.demo.endpoint`.

For the demo and its tests only; see chat.py.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_pipeline.demo.chat import ChatRoutes
from themis_pipeline.demo.grammars import form_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a folder with the model")
    parser.add_argument("--name", required=True, help="what requests call it")
    parser.add_argument("--threads", type=int, default=0, help="for computing; 0: all cores")
    parser.add_argument("--ready-file", type=Path, required=True, help="gets the address, once it serves")
    args = parser.parse_args()
    settings = TransformersSettings(args.model, threads=args.threads)
    asyncio.run(serve(settings, args.name, lambda address: _tell(args.ready_file, address)))


def _tell(file: Path, address: str) -> None:
    file.write_text(f"{address}\n", encoding="utf-8")


async def serve(settings: TransformersSettings, name: str, ready: Callable[[str], None]) -> None:
    """Returns after SIGTERM or SIGINT, when requests under way are answered. ready: told the address."""
    engine = TransformersEngine(settings)
    await engine.load()
    app = Starlette(routes=ChatRoutes(engine, name, form_for).routes)
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False, server_header=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Whoever connects before the loop accepts waits in the listener's queue.
        server = _Told(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, server.leave)
        ready(f"127.0.0.1:{listener.getsockname()[1]}")
        await server.serve([listener])
    await engine.unload()


class _Told(uvicorn.Server):
    """Ends with 0 when it is told to; uvicorn's own way with signals ends with the signal."""

    def leave(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


if __name__ == "__main__":
    main()
