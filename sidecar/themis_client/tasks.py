"""Runs coroutines together, and leaves none behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def all_or_cancel(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Waits for all; if one raises, or this is cancelled, cancels the others and waits for their end.

    asyncio.TaskGroup does this from Python 3.11 on; this goes when 3.10 does.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancel(tasks)


async def cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancels what is not done, and waits for it."""
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)
