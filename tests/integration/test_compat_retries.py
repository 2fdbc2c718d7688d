"""Overload, met as the trainers' own clients meet refusals: some try again whatever they are told, verl's not after
a 4xx."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.integration.compat_serving import PROMPT, Compat, compat, rewards

GOOD = {"prompt": PROMPT, "response": "good<|im_end|>", "label": None}
CHAT = {"model": "judge", "input": PROMPT + "good<|im_end|>\n", "activation": False}


class GivenUp(Exception):
    """The trainer's run ends here."""


async def post_as(
    trainer: str, served: Compat, path: str, sent: Any, pause: Callable[[], Awaitable[object]]
) -> httpx.Response:
    """pause: what happens while the client waits for its next try."""
    tries = {"openrlhf": 5, "slime": 10, "verl": 16}[trainer]
    for _ in range(tries):
        answer = await served.post(path, sent)
        if answer.status_code < 400:
            return answer
        if trainer == "verl" and answer.status_code < 500:
            raise GivenUp(f"a client error, {answer.status_code}")
        await pause()
    raise GivenUp(f"{tries} tries")


@pytest.mark.parametrize("bound", ["calls", "queue"])
@pytest.mark.parametrize(
    ("trainer", "path", "sent"),
    [("openrlhf", "/get_reward", rewards("good")), ("slime", "/rm", GOOD), ("verl", "/classify", CHAT)],
    ids=["openrlhf", "slime", "verl"],
)
async def test_a_run_that_is_refused_for_overload_goes_on(trainer: str, path: str, sent: Any, bound: str) -> None:
    settings: dict[str, Any] = {"max_calls": 1} if bound == "calls" else {"limits": {"max_queue_tokens": 15}}
    async with compat(**settings) as served:
        busy = asyncio.create_task(served.post("/rm", GOOD | {"response": "hold<|im_end|>"}))
        await served.judge.until(lambda: served.judge.started == ["hold"])

        async def pause() -> None:
            served.judge.released.set()
            await busy

        assert (await post_as(trainer, served, path, sent, pause)).status_code == 200
        codes = [line["code"] for line in served.lines("call")]
        assert codes == ["RESOURCE_EXHAUSTED", "OK", "OK"]  # refused once, then held, then tried again


async def test_what_no_retry_can_help_ends_a_run_at_once() -> None:
    async def pause() -> None:
        raise AssertionError("it was tried again")

    async with compat() as served:
        with pytest.raises(GivenUp, match="400"):
            await post_as("verl", served, "/classify", {"model": "judge", "input": "no chat"}, pause)
