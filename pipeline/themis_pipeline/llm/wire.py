"""One request over HTTP: what came back, and whether it may have been billed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import httpx

from themis_judge.engines.retry_after import retry_after_s
from themis_pipeline.llm.answers import Answer, NoCompletion, error_code, read_answer
from themis_pipeline.llm.endpoints import Endpoint

Blame: TypeAlias = Literal["endpoint", "request", None]

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_RETRIED = frozenset({408, 409, 425, 429})  # and all from 500 on
_GATEWAY_GAVE_UP = frozenset({504, 524})  # what stands behind it may have answered, and bills it
_LONGEST_PAUSE_S = 900.0  # an endpoint that asks for a year is asked again before
_CONNECT_S = 10.0  # where not even a connection comes about, nothing is billed: that has to be told apart
_REFUSAL_BYTES = 1 << 16
_WRONG_REQUEST = frozenset({400, 405, 406, 411, 413, 414, 415, 422, 431, 451})


class AttemptFailed(Exception):
    """how: a short name for the accounts; why: for people; billed: whether the endpoint may want money for it;
    again: whether another attempt makes sense; told_s: when it asked to be asked again; blame: what is at fault,
    None where nothing is (a limit that is reached)."""

    def __init__(
        self, how: str, why: str, *, billed: bool, again: bool, told_s: float | None = None, blame: Blame = "endpoint"
    ) -> None:
        super().__init__(why)
        self.how, self.why, self.billed, self.again = how, why, billed, again
        self.told_s, self.blame = told_s, blame


class Wire:
    """To one endpoint. wall: seconds since 1970."""

    def __init__(self, endpoint: Endpoint, wall: Callable[[], float] = time.time) -> None:
        self._endpoint, self._wall = endpoint, wall
        self._client = httpx.AsyncClient(
            base_url=endpoint.base_url,
            headers={"Authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else None,
            timeout=httpx.Timeout(endpoint.timeout_s, connect=min(_CONNECT_S, endpoint.timeout_s / 2)),
            limits=httpx.Limits(max_connections=endpoint.concurrency, max_keepalive_connections=endpoint.concurrency),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def post(self, body: Mapping[str, Any]) -> Answer:
        """Raises AttemptFailed."""
        name = self._endpoint.name
        try:
            # httpx's own time-outs are for each read: an endpoint that drips would never meet them.
            async with asyncio.timeout(self._endpoint.timeout_s):
                status, headers, data = await self._exchange(body)
        except _NOT_SENT as error:
            raise AttemptFailed("unreachable", f"{name}: {type(error).__name__}", billed=False, again=True) from None
        except TimeoutError:
            raise AttemptFailed("timeout", f"{name}: no answer in time", billed=True, again=True) from None
        except httpx.HTTPError as error:
            how = "timeout" if isinstance(error, httpx.TimeoutException) else "broken_off"
            raise AttemptFailed(how, f"{name}: {type(error).__name__}", billed=True, again=True) from None
        if not 200 <= status < 300:
            raise self._refusal(status, headers, data)
        try:
            return read_answer(data, self._endpoint.model)
        except NoCompletion as error:
            raise AttemptFailed("garbage", f"{name}: {error}", billed=True, again=True) from None

    async def _exchange(self, body: Mapping[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        async with self._client.stream("POST", "/chat/completions", json=body) as response:
            data = bytearray()
            async for piece in response.aiter_bytes():
                data += piece
                if not response.is_success:
                    if len(data) > _REFUSAL_BYTES:
                        break
                elif len(data) > self._endpoint.max_answer_bytes:
                    why = f"{self._endpoint.name}: the answer has more than {self._endpoint.max_answer_bytes} bytes"
                    raise AttemptFailed("too_large", why, billed=True, again=False, blame="request")
            return response.status_code, response.headers, bytes(data)

    def _refusal(self, status: int, headers: httpx.Headers, data: bytes) -> AttemptFailed:
        code = error_code(data)
        why = f"{self._endpoint.name}: answered {status}" + (f" ({code})" if code else "")
        again = (status in _RETRIED or status >= 500) and code != "insufficient_quota"
        # A key, an address or a quota that is wrong says nothing about the request: the next one may find it mended.
        blame: Blame = "request" if status in _WRONG_REQUEST else None if status == 429 and again else "endpoint"
        told_s = retry_after_s(headers, self._wall())
        if told_s is not None:
            told_s = min(told_s, _LONGEST_PAUSE_S)
        billed = status in _GATEWAY_GAVE_UP
        return AttemptFailed(f"status_{status}", why, billed=billed, again=again, told_s=told_s, blame=blame)
