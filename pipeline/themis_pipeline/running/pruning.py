"""Old entries of the journal of paid answers go, so that it doesn't grow for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from themis_judge.store.errors import StoreError
from themis_pipeline.config import LLMConfig
from themis_pipeline.llm.errors import LLMError
from themis_pipeline.llm.opening import prune_journal
from themis_pipeline.running.logs import Logger

EVERY_S = 24 * 3600.0


@asynccontextmanager
async def pruning(config: LLMConfig, logger: Logger) -> AsyncIterator[None]:
    """At the start and daily, while the block runs. What a store that is away leaves is left for the next time."""
    task = asyncio.create_task(_daily(config, logger))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _daily(config: LLMConfig, logger: Logger) -> None:
    while True:
        try:
            logger.info("journal_pruned", entries=await prune_journal(config))
        except (LLMError, StoreError) as error:
            logger.warning("journal_not_pruned", error=error)
        await asyncio.sleep(EVERY_S)
