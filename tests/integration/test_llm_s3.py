"""Journal, limits and budget in an object store, which is where a fleet on several machines has them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.test_store_s3 import KEYS, bucket, s3_server  # noqa: F401
from themis_judge.store.remote import RemoteFiles
from themis_pipeline.config import LLMConfig
from themis_pipeline.llm.accounts import Accounts
from themis_pipeline.llm.errors import SharedStoreUnavailable
from themis_pipeline.llm.journal import Entry, FileJournal
from themis_pipeline.llm.ledger import FileLedger
from themis_pipeline.llm.opening import make_endpoints, open_llm

ENTRY = Entry("input-1", "label", 0, "digest", "yes", "stop", "near", "served", 10, 5, 20)


@pytest.fixture
def store(s3_server: str, bucket: str) -> Iterator[RemoteFiles]:  # noqa: F811
    files = RemoteFiles(f"s3://{bucket}/pipeline", {**KEYS, "endpoint_url": s3_server}, timeout_s=60.0)
    yield files
    files.close()


def test_an_answer_is_told_to_the_next_member(store: RemoteFiles) -> None:
    assert FileJournal(store).find(ENTRY.key, "digest") is None
    FileJournal(store).record(ENTRY)
    assert FileJournal(store).find(ENTRY.key, "digest") == ENTRY
    assert sum(FileJournal(store).prune(before_s=2e10)) == 1
    assert FileJournal(store).find(ENTRY.key, "digest") is None


def test_members_never_take_more_than_there_is(store: RemoteFiles) -> None:
    def taker(_: int) -> int:
        ledger, got = FileLedger(store), 0
        while (granted := ledger.take("limits-near/000000000001", (1,), (4,), (30,))) is not None:
            got += granted[0]
        return got

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(taker, range(3))) == 30
    ledger = FileLedger(store)
    assert ledger.taken("limits-near/000000000001") == (30,)
    ledger.forget("limits-near", "000000000002")
    assert FileLedger(store).taken("limits-near/000000000001") == ()


def test_a_store_that_is_not_there_stops_everything() -> None:
    files = RemoteFiles("s3://nowhere/pipeline", {**KEYS, "endpoint_url": "http://127.0.0.1:9"}, timeout_s=1.0)
    with pytest.raises(SharedStoreUnavailable):
        FileJournal(files).find(ENTRY.key, "digest")
    with pytest.raises(SharedStoreUnavailable):
        FileLedger(files).take("budget-all", (1,), (1,), (1,))
    files.close()


async def test_nothing_opens_without_a_store() -> None:
    near = {"name": "near", "base_url": "http://near/v1", "model": "small"}
    config = LLMConfig.model_validate({"endpoints": [near], "store_url": "s3://nowhere/pipeline", "store_timeout_s": 1})
    options = {**KEYS, "endpoint_url": "http://127.0.0.1:9"}
    with pytest.raises(SharedStoreUnavailable):
        async with open_llm(
            config,
            make_endpoints(config),
            lambda: (),
            Accounts(),
            teachers=(),
            warn=pytest.fail,
            storage_options=options,
        ):
            pass
