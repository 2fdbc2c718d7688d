"""Puts LLM calls together from their settings."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from themis_judge.store.errors import StoreUnavailable
from themis_judge.store.files import Files
from themis_judge.store.local import LocalFiles
from themis_judge.store.remote import RemoteFiles
from themis_pipeline.config.llm import BudgetConfig, EndpointConfig, LLMConfig
from themis_pipeline.llm.accounts import Accounts
from themis_pipeline.llm.budget import Budget, Budgets
from themis_pipeline.llm.client import JournaledLLM
from themis_pipeline.llm.endpoints import Endpoint, Endpoints, RateLimit, check_teacher
from themis_pipeline.llm.errors import SameLineage, SharedStoreUnavailable
from themis_pipeline.llm.journal import FileJournal
from themis_pipeline.llm.ledger import FileLedger, Ledger

_MICROS = 1_000_000
_DAY_S = 86_400


@asynccontextmanager
async def open_llm(
    config: LLMConfig,
    endpoints: Endpoints,
    judge_lineage: Callable[[], Collection[str]],
    accounts: Accounts,
    *,
    teachers: Collection[str],
    warn: Callable[[str], None],
    storage_options: Mapping[str, Any] | None = None,
) -> AsyncIterator[JournaledLLM]:
    """Leave it when no call is in flight. teachers: names of endpoints that will be asked as such; warn is told of each
    that only `allow_judge_lineage` lets teach; storage_options: handed to fsspec. Raises ValueError without a store,
    StoreError or LLMError for a store that can't be used, SameLineage."""
    for name in teachers:
        _check_teacher(config, endpoints[name], judge_lineage(), warn)
    files = open_files(config, storage_options or {})
    try:
        ledger = FileLedger(files)
        budgets = make_budgets(config.budget, ledger)
        # A store that takes no files would be noticed only when the first answer is paid.
        await asyncio.to_thread(_try_out, files)
        await budgets.look()
        lineage = None if config.allow_judge_lineage else judge_lineage
        llm = JournaledLLM(endpoints, FileJournal(files), ledger, budgets, lineage, accounts)
        try:
            yield llm
        finally:
            with suppress(SharedStoreUnavailable):  # what can't be given back counts as spent
                await llm.close()
    finally:
        files.close()


async def prune_journal(config: LLMConfig, storage_options: Mapping[str, Any] | None = None) -> int:
    """Removes the answers that are older than `journal_retention_days`, for one process at a time or several; how many.
    To be called at a start and daily; it ends soon after it is cancelled. Raises what open_llm does."""
    if config.journal_retention_days is None:
        return 0
    files = open_files(config, storage_options or {})
    try:
        removed = 0
        folders = FileJournal(files).prune(time.time() - config.journal_retention_days * _DAY_S)
        while (count := await asyncio.to_thread(next, folders, None)) is not None:
            removed += count
        return removed
    finally:
        files.close()


def make_budgets(config: BudgetConfig, ledger: Ledger) -> Budgets:
    slice_micros = max(1, round(config.slice * _MICROS))
    everything = Budget(config.name, round(config.total * _MICROS), slice_micros, ledger)
    stages = {
        stage: Budget(f"{config.name}/{stage}", round(total * _MICROS), slice_micros, ledger, everything)
        for stage, total in config.stages.items()
    }
    return Budgets(everything, stages)


def _check_teacher(
    config: LLMConfig, endpoint: Endpoint, judge_lineage: Collection[str], warn: Callable[[str], None]
) -> None:
    try:
        check_teacher(endpoint, judge_lineage)
    except SameLineage as error:
        if not config.allow_judge_lineage:
            raise
        warn(f"{error}; llm.allow_judge_lineage lets it teach all the same: never train a judge on its labels")


def _try_out(files: Files) -> None:
    path = f"opening-{secrets.token_hex(8)}"
    try:
        files.create(path, b"")
        files.delete(path)
    except StoreUnavailable as error:
        raise SharedStoreUnavailable(str(error), 0.0) from error


def open_files(config: LLMConfig, storage_options: Mapping[str, Any]) -> Files:
    if config.store_url is None:
        raise ValueError("llm.store_url: calls to LLMs need a store that all processes share")
    if "://" in config.store_url and not config.store_url.startswith("file://"):
        return RemoteFiles(config.store_url, storage_options, config.store_timeout_s)
    return LocalFiles(Path(config.store_url.removeprefix("file://")).expanduser().absolute())


def make_endpoints(config: LLMConfig) -> Endpoints:
    """Reads the keys. Raises ValueError for settings that can't work, OSError for a key that can't be read."""
    return Endpoints([_endpoint(endpoint) for endpoint in config.endpoints])


def _endpoint(config: EndpointConfig) -> Endpoint:
    key = config.api_key_file.read_text(encoding="utf-8").strip() if config.api_key_file else None
    rate = config.rate
    return Endpoint(
        name=config.name,
        base_url=config.base_url,
        model=config.model,
        lineage=config.lineage,
        api_key=key,
        limit=RateLimit(rate.requests_per_minute, rate.tokens_per_minute, rate.window_s, rate.slices),
        prompt_price=config.prompt_price,
        completion_price=config.completion_price,
        concurrency=config.concurrency,
        waiting=config.waiting,
        timeout_s=config.timeout_s,
        attempts=config.attempts,
        max_wait_s=config.max_wait_s,
        failures_to_open=config.failures_to_open,
        open_s=config.open_s,
        max_tokens_field=config.max_tokens_field,
        extra_body=config.extra_body,
    )
