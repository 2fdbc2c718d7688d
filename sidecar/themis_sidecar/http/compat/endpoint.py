"""One route: who calls, for how long, what was sent, and what is answered."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from themis_judge.engines.base import Deadline
from themis_sidecar.config import CompatConfig
from themis_sidecar.edge import CallFailed, Edge
from themis_sidecar.errors import CallerGone, CallError, CallTimeout, InvalidCall, Overloaded, TooLarge
from themis_sidecar.http.compat.formats import Format
from themis_sidecar.http.compat.refusals import refusal
from themis_sidecar.http.compat.scoring import Scoring
from themis_sidecar.logs import Logger
from themis_sidecar.security.door import Door
from themis_sidecar.status import status_of

TIMEOUT, VERSION = "x-themis-timeout-s", "x-themis-version"
SCALE = "x-themis-rewards-scale"  # of answers: what the scores 0 and 1 became, since rewards alone don't tell
TIMEOUT_PARAMETER, VERSION_PARAMETER = "timeout_s", "version"  # in the address, for clients that set no headers
FULL_RETRY_S = 1.0  # how soon a call ends can't be known; a second spreads the retries

T = TypeVar("T")


class Slots:
    """Counts the calls of all routes."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._calls = 0

    def __enter__(self) -> None:
        if self._calls >= self._max_calls:
            raise Overloaded(f"{self._calls} calls are in flight here, as many as http.compat takes", FULL_RETRY_S)
        self._calls += 1

    def __exit__(self, *_: object) -> None:
        self._calls -= 1


@dataclass(frozen=True, slots=True)
class Shared:
    """What all routes have in common. max_deadline_s: the longest that a call may take."""

    config: CompatConfig
    max_deadline_s: float
    door: Door
    edge: Edge
    scoring: Scoring
    slots: Slots
    logger: Logger


class Endpoint:
    """Answers the requests of one format."""

    def __init__(self, format: Format, shared: Shared) -> None:
        self._format = format
        self._shared = shared

    async def answer(self, request: Request) -> Response:
        method, peer = self._format.method, _peer(request)
        try:
            with self._shared.door.http_call(request.headers.getlist("authorization")):
                try:
                    return await self._shared.edge.call(
                        method, peer, request.headers.items(), lambda: self._work(request)
                    )
                except CallFailed as failed:
                    return refusal(failed)
        except CallError as error:  # from the door: it is no call yet
            status = status_of(error)
            self._shared.logger.warning(
                "refused", method=self._format.path, code=status.code.name, problem=str(error), peer=peer
            )
            return refusal(CallFailed(status, error))

    async def _work(self, request: Request) -> Response:
        with self._shared.slots:
            return await self._scored(request, Deadline.after(self._timeout_s(request)))

    async def _scored(self, request: Request, deadline: Deadline) -> Response:
        scoring, body = self._shared.scoring, await self._body(request, deadline)
        version = request.headers.get(VERSION) or request.query_params.get(VERSION_PARAMETER, "")
        scores = await _unless_gone(request, scoring.run(self._format.read(body, scoring), version, deadline))
        headers = {"cache-control": "no-store", SCALE: f"{scoring.scale.low} {scoring.scale.high}"}
        headers |= {VERSION: scores.version} if scores.version else {}
        return JSONResponse(self._format.write(scores, scoring), headers=headers)

    def _timeout_s(self, request: Request) -> float:
        """As asked for, else as configured, and never longer than the server's own."""
        name, text = TIMEOUT, request.headers.get(TIMEOUT)
        if text is None:
            name, text = TIMEOUT_PARAMETER, request.query_params.get(TIMEOUT_PARAMETER)
        if text is None:
            return min(self._shared.config.timeout_s, self._shared.max_deadline_s)
        try:
            asked_s = float(text)
        except ValueError:
            asked_s = math.nan
        if not asked_s > 0:
            raise InvalidCall(name, "is no number of seconds above 0")
        return min(asked_s, self._shared.max_deadline_s)

    async def _body(self, request: Request, deadline: Deadline) -> bytes:
        """Read no further than it may be long."""
        most = self._shared.config.max_body_bytes
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise TooLarge(f"the body has {length} bytes; this server takes up to {most}")
        body = bytearray()
        try:
            async with asyncio.timeout(max(0.0, deadline.remaining_s())):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise TooLarge(f"the body has more than {most} bytes, which is what this server takes")
        except TimeoutError as error:
            raise CallTimeout("the call's time is over, and its body did not come") from error
        except ClientDisconnect as error:
            raise CallerGone("the caller left") from error
        return bytes(body)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Stops the work when the client closes the connection."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CallerGone("the caller left")
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _peer(request: Request) -> str:
    return "unknown" if request.client is None else f"{request.client.host}:{request.client.port}"
