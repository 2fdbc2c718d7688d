"""LLM calls as settings describe them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.pipeline.llm_endpoint import answer, misbehaving
from themis_judge.engines.base import Deadline
from themis_judge.store.local import LocalFiles
from themis_pipeline.config import LLMConfig, PipelineConfig
from themis_pipeline.llm.accounts import Accounts
from themis_pipeline.llm.calls import CallContext, CallKey, Message, Request
from themis_pipeline.llm.client import LLM, JournaledLLM
from themis_pipeline.llm.errors import BudgetSpent, LLMError, SameLineage
from themis_pipeline.llm.journal import Entry, FileJournal
from themis_pipeline.llm.ledger import FileLedger
from themis_pipeline.llm.opening import make_endpoints, open_llm, prune_journal

NEAR = {"name": "near", "base_url": "http://near/v1", "model": "small"}


def opened(
    config: LLMConfig,
    accounts: Accounts,
    judge: Collection[str] = (),
    teachers: Collection[str] = (),
    warn: Callable[[str], None] = pytest.fail,
) -> AbstractAsyncContextManager[JournaledLLM]:
    return open_llm(config, make_endpoints(config), lambda: judge, accounts, teachers=teachers, warn=warn)


async def test_settings_become_calls_within_limits_and_budget(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-near\n")
    store = tmp_path / "store"
    with misbehaving(answer("yes")) as server:
        near = {
            **NEAR,
            "base_url": server.url,
            "api_key_file": tmp_path / "key",
            "rate": {"requests_per_minute": 600},
            "prompt_price": 1.0,
            "completion_price": 2.0,
            "max_tokens_field": "max_completion_tokens",
        }
        config = LLMConfig.model_validate(
            {"endpoints": [near], "store_url": str(store), "budget": {"name": "june", "total": 0.000099, "slice": 1e-5}}
        )
        accounts = Accounts()
        async with opened(config, accounts) as llm:
            request = Request("near", (Message("user", "Say yes."),), 20)
            context = CallContext(CallKey("input-1", "respond", 0), Deadline.after(120))
            assert (await llm.complete(request, context)).cost_micros == 20
            with pytest.raises(BudgetSpent):  # it could cost 80: 99 less 20 are left
                await llm.complete(request, CallContext(CallKey("input-2", "respond", 0), Deadline.after(120)))
    assert server.headers[0]["Authorization"] == "Bearer sk-near"
    assert server.bodies[0]["max_completion_tokens"] == 20
    assert FileLedger(LocalFiles(store)).taken("budget-june") == (20,)
    assert [path.name for path in store.glob("limits-*")] == ["limits-near"]
    assert accounts.snapshot()["respond", "near"].answers == {"text": 1, "BudgetSpent": 1}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"endpoints": [NEAR]}, "store_url"),
        ({"endpoints": [NEAR, NEAR], "store_url": "here"}, "same name"),
        ({"endpoints": [{**NEAR, "base_url": "http://me:hidden@near"}], "store_url": "here"}, "api_key_file"),
        ({"endpoints": [{**NEAR, "api_key": "hidden"}], "store_url": "here"}, "api_key"),
        ({"endpoints": [{**NEAR, "name": "../near"}], "store_url": "here"}, "name"),
        ({"budget": {"slice": 0}}, "slice"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        LLMConfig.model_validate(wrong)


async def test_without_a_store_nothing_opens() -> None:
    config = PipelineConfig().llm
    with pytest.raises(ValueError, match="store_url"):
        async with opened(config, Accounts()):
            pass


@pytest.mark.parametrize(
    ("lineage", "judge"), [([], {"themis"}), (["themis"], {"themis"}), (["else"], {"small"}), (["else"], ())]
)
async def test_a_teacher_of_the_judges_lineage_opens_nothing_unless_it_is_let(
    tmp_path: Path, lineage: list[str], judge: set[str]
) -> None:
    warned: list[str] = []
    with misbehaving(answer("yes")) as server:
        told = {"endpoints": [{**NEAR, "base_url": server.url, "lineage": lineage}], "store_url": str(tmp_path)}
        config = LLMConfig.model_validate(told)
        with pytest.raises(SameLineage, match="near"):
            async with opened(config, Accounts(), judge, ["near"], warned.append):
                pass
        assert not warned
        config = LLMConfig.model_validate({**told, "allow_judge_lineage": True})
        async with opened(config, Accounts(), judge, ["near"], warned.append) as llm:
            request = Request("near", (Message("user", "Say yes."),), 20, role="teacher")
            context = CallContext(CallKey("input-1", "label", 0), Deadline.after(120))
            assert (await llm.complete(request, context)).text == "yes"
    assert len(warned) == 1
    assert "never train a judge" in warned[0]


async def test_stages_have_budgets_within_the_whole(tmp_path: Path) -> None:
    with misbehaving(answer("yes")) as server:
        near = {**NEAR, "base_url": server.url, "prompt_price": 1.0, "completion_price": 2.0}
        config = LLMConfig.model_validate(
            {
                "endpoints": [near],
                "store_url": str(tmp_path),
                "budget": {"name": "june", "total": 0.0002, "slice": 1e-6, "stages": {"label": 0.00012, "quiz": 1.0}},
            }
        )
        accounts = Accounts()
        async with opened(config, accounts) as llm:
            ends: dict[str, list[str]] = {}
            for stage in ("label", "quiz", "respond"):
                for index in range(20):
                    ends.setdefault(stage, []).append(await ended(llm, stage, index))
        spent = {stage: accounts.of(stage, "near").cost_micros for stage in ends}
    # A call costs 20, and could cost 80.
    assert spent == {"label": 60, "quiz": 80, "respond": 0}
    ledger = FileLedger(LocalFiles(tmp_path))
    assert [ledger.taken(f"budget-june{part}") for part in ("", "/label", "/quiz")] == [(140,), (60,), (80,)]
    assert ends["respond"] == ["BudgetSpent"] * 20


async def ended(llm: LLM, stage: str, index: int) -> str:
    request = Request("near", (Message("user", "Say yes."),), 20)
    try:
        await llm.complete(request, CallContext(CallKey("input-1", stage, index), Deadline.after(120)))
    except LLMError as error:
        return type(error).__name__
    return "text"


async def test_old_answers_are_pruned_by_the_days_that_are_set(tmp_path: Path) -> None:
    journal = FileJournal(LocalFiles(tmp_path))
    for index in range(4):
        journal.record(Entry("input-1", "label", index, "digest", "yes", "stop", "near", "served", 10, 5, 20))
    told = {"endpoints": [NEAR], "store_url": str(tmp_path)}
    assert await prune_journal(LLMConfig.model_validate(told)) == 0
    assert await prune_journal(LLMConfig.model_validate({**told, "journal_retention_days": None})) == 0
    age(tmp_path, days=2)
    assert await prune_journal(LLMConfig.model_validate({**told, "journal_retention_days": 3})) == 0
    assert await prune_journal(LLMConfig.model_validate({**told, "journal_retention_days": 1})) == 4


def age(folder: Path, days: float) -> None:
    for file in folder.glob("journal-*/*"):
        state = file.stat()
        os.utime(file, (state.st_atime, state.st_mtime - days * 86_400))
