"""The number of calls at a time."""

from __future__ import annotations

import asyncio

from themis_client.gate import Gate


async def enter(gate: Gate, entered: list[int], name: int, leave: asyncio.Event) -> None:
    async with gate:
        entered.append(name)
        await leave.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_it_lets_through_as_many_as_it_says() -> None:
    gate, entered, leave = Gate(2), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(enter(gate, entered, i, leave)) for i in range(5)]
    await settle()
    assert entered == [0, 1]
    leave.set()
    await asyncio.gather(*tasks)
    assert entered == [0, 1, 2, 3, 4]
    assert gate.inside == 0


async def test_overload_halves_and_success_adds_one() -> None:
    gate = Gate(8)
    limits = [gate.limit]
    for _ in range(4):
        gate.overloaded()
        limits.append(gate.limit)
    for _ in range(9):
        gate.succeeded()
    assert limits == [8, 4, 2, 1, 1]
    assert gate.limit == 8


async def test_one_that_gives_up_passes_its_turn_on() -> None:
    gate, entered, leave = Gate(1), list[int](), asyncio.Event()
    await gate.__aenter__()
    tasks = [asyncio.create_task(enter(gate, entered, i, leave)) for i in range(2)]
    await settle()
    await gate.__aexit__(None, None, None)
    tasks[0].cancel()  # it has been called in, and did not get to run
    leave.set()
    await asyncio.wait(tasks)
    assert entered == [1]
    assert gate.inside == 0


async def test_a_gate_that_is_shut_opens() -> None:
    gate, entered, leave = Gate(0), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(enter(gate, entered, i, leave)) for i in range(4)]
    await settle()
    assert entered == []
    gate.widen(3)
    await settle()
    assert entered == [0, 1, 2]
    gate.remove()
    leave.set()
    await asyncio.gather(*tasks)
