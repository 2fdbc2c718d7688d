"""What a fleet's keepers see of its versions, and who may change them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from tests.integration.security_parts import bearer, entry, write_callers
from tests.integration.versions_fleet import (
    Replica,
    call,
    health,
    open_store,
    publish,
    refused,
    replica,
    state,
    until,
    versions_in,
)
from themis_proto.v1 import versions_pb2 as vpb
from themis_sidecar.config import SecurityConfig

SCORE, ADMIN = "token-of-score", "token-of-admin"


async def test_a_token_to_score_sees_and_holds_versions_and_changes_none(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first, second))
    callers = write_callers(tmp_path / "callers.yaml", entry("trainer", SCORE), entry("platform", ADMIN, role="admin"))
    async with replica(tmp_path / "store", security=SecurityConfig(callers_file=callers)) as one:
        await one.ready()
        stub, trainer = one.versions, bearer(SCORE)
        assert (await stub.List(vpb.ListRequest(), metadata=trainer)).answering.current == first
        held = await stub.Hold(vpb.HoldRequest(version=first, holder="a run", ttl_s=60), metadata=trainer)
        changes: list[tuple[Any, Any]] = [
            (stub.Load, vpb.LoadRequest(version=second, shadow_share=0.5)),
            (stub.Promote, vpb.PromoteRequest(version=second, force=True)),
            (stub.Retire, vpb.RetireRequest(version=second)),
        ]
        for method, request in changes:
            assert (await refused(method(request, metadata=trainer))).code() is grpc.StatusCode.PERMISSION_DENIED
            assert (await refused(method(request))).code() is grpc.StatusCode.UNAUTHENTICATED
        assert store.desired() == state(1, first, second)
        await stub.Release(vpb.ReleaseRequest(lease_id=held.lease.id), metadata=trainer)
        promoted = await stub.Promote(vpb.PromoteRequest(version=second, wait_s=60), metadata=bearer(ADMIN))
        assert promoted.reached
        named = {(line["method"], line["caller"]) for line in one.lines("call")}
        assert named == {("List", "trainer"), ("Hold", "trainer"), ("Release", "trainer"), ("Promote", "platform")}


def sample(one: Replica, name: str, **labels: str) -> float | None:
    return one.telemetry.metrics.registry.get_sample_value(name, labels)


def versions_measured(one: Replica, name: str) -> set[str]:
    return {
        sample.labels["version"]
        for family in one.telemetry.metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


async def test_changes_show_in_metrics_and_in_the_state(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second, third = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2, 3))
    bad = publish(store, tiny_model("llama", 3), "unwell", health_prompts=health(low=100)).id
    store.propose(state(1, first))
    async with replica(tmp_path / "store") as one:
        await one.ready()
        for version in (second, third):
            current = versions_in((await one.judge.Score(call(2))).results)
            assert versions_measured(one, "themis_version_current") == current
            assert (await one.versions.Promote(vpb.PromoteRequest(version=version, wait_s=60))).reached

        async def two_are_left() -> bool:
            return [found.id for found in one.server.state.versions] == [third, second]

        await until(two_are_left)
        await one.judge.Score(call(3))
        assert versions_measured(one, "themis_version_current") == {third}
        assert versions_measured(one, "themis_items_total") == {second, third}  # those of what is unloaded have ended
        assert sample(one, "themis_items_total", method="Score", status="OK", version=third) == 3
        assert sample(one, "themis_version_promotions_total") == 2
        assert sample(one, "themis_version_load_seconds_count", outcome="ok") == 3
        assert not (await one.versions.Promote(vpb.PromoteRequest(version=bad, wait_s=60))).reached
        await one.serving(third)
        assert sample(one, "themis_version_load_seconds_count", outcome="failed") == 1
        assert sample(one, "themis_version_rollbacks_total") == 1
        assert sample(one, "themis_version_promotions_total") == 2
        assert sample(one, "themis_calls_total", method="Promote", code="OK") == 3


async def test_an_exchange_counts_as_a_promotion(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    async with replica(tmp_path / "store", max_resident=1) as one:
        await one.ready()
        assert (await one.versions.Promote(vpb.PromoteRequest(version=second, wait_s=60))).reached
        assert sample(one, "themis_version_promotions_total") == 1
        assert versions_measured(one, "themis_version_current") == {second}
        assert [line["version"] for line in one.lines("version_promoted")] == [first, second]
        assert [line["version"] for line in one.lines("version_unloaded")] == [first]
