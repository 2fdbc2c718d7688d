"""An OpenAI-compatible endpoint on a real socket, that misbehaves as told."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Reply:
    """promised: the Content-Length told, where it isn't that of the body."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    promised: int | None = None


@dataclass(frozen=True)
class Drop:
    """Closes the connection without a word."""


@dataclass(frozen=True)
class Silence:
    """Says nothing until the server ends."""


@dataclass(frozen=True)
class Drip:
    """A chunk at a time, without an end."""


@dataclass(frozen=True)
class Reset:
    """Begins an answer, then resets the connection."""


Behaviour = Reply | Drop | Silence | Drip | Reset
Behaves = Behaviour | Callable[[dict[str, Any]], Behaviour]
"""Itself, or what a request's body makes of it."""


@dataclass(frozen=True)
class Served:
    """at_s: when it was asked, in seconds since 1970."""

    at_s: float
    body: dict[str, Any]
    behaviour: Behaviour


def answer(text: str | None, finish: str = "stop", prompt: int = 10, completion: int = 5, **more: Any) -> Reply:
    message = {"role": "assistant", "content": text, **more}
    told = {
        "model": "served-model",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion},
    }
    return Reply(json.dumps(told).encode(), headers=_JSON)


def refusal(status: int, code: str = "", message: str = "", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return Reply(body, status, {**_JSON, **named})


class Misbehaving:
    """Behaves in turn as listed, the last again and again. `bodies`: what was asked, in order; `served`: with what
    came of it."""

    def __init__(self, behaviours: tuple[Behaves, ...]) -> None:
        self._behaviours = behaviours
        self._lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.served: list[Served] = []
        self.over = threading.Event()
        self.url = ""

    @property
    def calls(self) -> int:
        return len(self.bodies)

    def next(self, headers: Mapping[str, str], body: dict[str, Any]) -> Behaviour:
        at_s = time.time()
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            behaviour = self._behaviours[min(len(self.bodies), len(self._behaviours)) - 1]
        behaves = behaviour(body) if callable(behaviour) else behaviour
        with self._lock:
            self.served.append(Served(at_s, body, behaves))
        return behaves


@contextmanager
def misbehaving(*behaviours: Behaves) -> Iterator[Misbehaving]:
    here = Misbehaving(behaviours)
    with listening(here):
        yield here


@contextmanager
def listening(here: Misbehaving) -> Iterator[None]:
    """On a port of its own, which `url` then tells."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with suppress(ConnectionError):  # the caller is gone
                self._behave(here.next(dict(self.headers), body))

        def _behave(self, behaviour: Behaviour) -> None:
            if isinstance(behaviour, Reply):
                self._reply(behaviour)
                return
            self.close_connection = True
            if isinstance(behaviour, Reset):
                self.send_response(200)
                self.send_header("Content-Length", "4000")
                self.end_headers()
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            if isinstance(behaviour, Silence):
                here.over.wait()
            if isinstance(behaviour, Drip):
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while not here.over.wait(0.01):
                    self.wfile.write(b"1\r\n \r\n")
                    self.wfile.flush()

        def _reply(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body) if reply.promised is None else reply.promised))
            self.end_headers()
            self.wfile.write(reply.body)
            self.close_connection = reply.promised is not None

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        here.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            here.over.set()
            server.shutdown()
            thread.join()
