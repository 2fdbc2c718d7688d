"""A client of vLLM's HTTP server that costs next to nothing: requests made beforehand, kept connections, no library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence


def completions(prompts: Sequence[Sequence[int]], labels: Sequence[int]) -> bytes:
    """A request to /v1/completions for the log-probabilities of label tokens after each prompt's ids."""
    body = json.dumps(
        {
            "model": "m",
            "prompt": list(prompts[0]) if len(prompts) == 1 else [list(ids) for ids in prompts],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": len(labels),
            "logprob_token_ids": list(labels),
            "return_tokens_as_token_ids": True,
        }
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def send_all(port: int, requests: Sequence[bytes], connections: int, labels: int) -> int:
    """Sends all of them, one at a time on each connection; the number of prompts that were answered with at least
    `labels` log-probabilities each."""
    waiting = iter(requests)

    async def connection() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        answered = 0
        for request in waiting:
            writer.write(request)
            for choice in json.loads(await _body(reader))["choices"]:
                answered += len(choice["logprobs"]["top_logprobs"][0]) >= labels
        writer.close()
        await writer.wait_closed()
        return answered

    return sum(await asyncio.gather(*(connection() for _ in range(connections))))


async def _body(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status, _, fields = head.partition(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in fields.split(b"\r\n") if line.startswith(b"content-length"))
    body = await reader.readexactly(length)
    if b" 200 " not in status:
        raise RuntimeError(f"vLLM answered {status.decode()}")
    return body
