"""LLM calls put together for tests, on a clock that only sleeping moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from themis_judge.engines.base import Deadline
from themis_judge.store.local import LocalFiles
from themis_pipeline.llm.accounts import Accounts, Totals
from themis_pipeline.llm.budget import Budget, Budgets
from themis_pipeline.llm.calls import CallContext, CallKey, Message, Request
from themis_pipeline.llm.client import JournaledLLM, Time
from themis_pipeline.llm.endpoints import Endpoint, Endpoints
from themis_pipeline.llm.errors import LLMError
from themis_pipeline.llm.journal import FileJournal, Journal
from themis_pipeline.llm.ledger import FileLedger, Ledger

NAME = "near"
RICH = 10**12


class Moments:
    """A clock that sleeping moves. `slept`: each wait, in seconds. sleeper: what a test does in its place."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0
        self.slept: list[float] = []
        self.sleeper: Callable[[float], Awaitable[None]] | None = None

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.sleeper is not None:
            await self.sleeper(seconds)
            return
        self.now_s += seconds

    def clock(self) -> float:
        return self.now_s

    def random(self) -> float:
        return 0.5

    def time(self) -> Time:
        return Time(self.sleep, self.clock, self.clock, self.random)


@dataclass
class Parts:
    llm: JournaledLLM
    accounts: Accounts
    moments: Moments
    ledger: Ledger
    budget: Budget
    stage: str = "label"

    def context(self, input_id: str = "input-1", index: int = 0, seconds: float = 300.0) -> CallContext:
        return CallContext(CallKey(input_id, self.stage, index), Deadline(self.moments.now_s + seconds))

    @property
    def totals(self) -> Totals:
        return self.accounts.of(self.stage, NAME)


def asked(text: str = "Say yes.", **more: Any) -> Request:
    return Request(NAME, (Message("user", text),), **{"max_tokens": 20, **more})


def near(url: str, **more: Any) -> Endpoint:
    usual: dict[str, Any] = {"prompt_price": 1.0, "completion_price": 2.0, "timeout_s": 30.0, "lineage": ("elsewhere",)}
    return Endpoint(NAME, url, "asked-model", **{**usual, **more})


@asynccontextmanager
async def put_together(
    folder: Path,
    endpoint: Endpoint,
    *,
    total_micros: int = RICH,
    slice_micros: int = 10_000,
    lineage: Collection[str] = ("themis",),
    journal: Journal | None = None,
) -> AsyncIterator[Parts]:
    files = LocalFiles(folder)
    ledger, accounts, moments = FileLedger(files), Accounts(), Moments()
    budget = Budget("all", total_micros, slice_micros, ledger)
    journal = journal or FileJournal(files)
    budgets = Budgets(budget)
    llm = JournaledLLM(Endpoints([endpoint]), journal, ledger, budgets, lambda: lineage, accounts, moments.time())
    try:
        yield Parts(llm, accounts, moments, ledger, budget)
    finally:
        await llm.close()


async def ended(parts: Parts, index: int) -> str:
    """How a call with a short deadline ended: "text", or the error's name."""
    try:
        await parts.llm.complete(asked(), parts.context(index=index, seconds=5))
    except LLMError as error:
        return type(error).__name__
    return "text"
