"""Who may come in."""

from __future__ import annotations

import asyncio

import pytest

from themis_sidecar.errors import Overloaded, Unavailable
from themis_sidecar.gate import Gate


def test_closed_until_opened_and_shut_for_good() -> None:
    gate = Gate(max_calls=2)
    with pytest.raises(Unavailable, match="loading"), gate.call():
        pass
    gate.open()
    with gate.call():
        assert gate.calls == 1
    gate.close("draining")
    gate.open()
    with pytest.raises(Unavailable, match="draining"), gate.call():
        pass


def test_full() -> None:
    gate = Gate(max_calls=1)
    gate.open()
    with gate.call(), pytest.raises(Overloaded) as caught, gate.call():
        pass
    assert caught.value.retry_after_s > 0
    assert gate.calls == 0


async def test_idle_waits_for_the_last_call() -> None:
    gate = Gate(max_calls=2)
    gate.open()
    assert await gate.idle(0.0) is True
    with gate.call():
        assert await gate.idle(0.01) is False
        waiting = asyncio.create_task(gate.idle(60))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting is True
