"""Leases under clocks that jump, and what keeps a version from being retired."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.judge.store_samples import SetClock, adapter, model, opened, published, state
from themis_judge.store import (
    Conflict,
    CorruptEntry,
    Draft,
    InUse,
    JudgeStore,
    Lease,
    Refused,
    ReplicaReport,
    StoreError,
    UnknownVersion,
)

DAY_S = 86_400.0


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> JudgeStore:
    return opened(tmp_path, clock)


@pytest.fixture
def serving(store: JudgeStore, tmp_path: Path) -> str:
    """Something is current, as in a fleet at work."""
    version = published(store, tmp_path, "serving").id
    store.propose(state(1, version))
    return version


def renewed_s_ago(tmp_path: Path, lease: Lease, seconds: float) -> None:
    """What the store's own clock says of a lease."""
    file = tmp_path / "store" / "leases" / f"{lease.id}.json"
    at_s = file.stat().st_mtime - seconds
    os.utime(file, (at_s, at_s))


def test_a_lease_lives_until_its_time_is_over(store: JudgeStore, clock: SetClock, tmp_path: Path) -> None:
    version = published(store, tmp_path).id
    lease = store.hold(version, "run-7", 60)
    assert store.leases(version) == store.leases() == opened(tmp_path, clock).leases() == (lease,)
    assert (lease.expires_at, lease.holder) == ("2026-01-02T03:05:05.000000Z", "run-7")
    clock.pass_s(59)
    assert store.leases(version) == (lease,)
    again = store.hold(version, "run-7", 60, lease.id)
    assert again.id == lease.id
    clock.pass_s(59)
    assert store.leases(version) == (again,)
    clock.pass_s(2)
    assert store.leases(version) == ()
    assert store.hold(version, "run-7", 60, lease.id).id == lease.id, "late is not lost while nobody retired it"


def test_a_released_lease_is_gone(store: JudgeStore, tmp_path: Path) -> None:
    version = published(store, tmp_path).id
    first, second = store.hold(version, "one", 60), store.hold(version, "two", 60)
    store.release(first.id)
    store.release(first.id)
    assert store.leases(version) == (second,)


def test_a_clock_that_jumps_back_only_lengthens(store: JudgeStore, clock: SetClock, tmp_path: Path) -> None:
    lease = store.hold(published(store, tmp_path).id, "run", 60)
    clock.jump_s(-DAY_S)
    assert store.leases() == (lease,)
    clock.pass_s(90)
    assert store.leases() == (lease,)


def test_a_clock_that_jumps_ahead_ends_no_lease_that_was_seen_alive(
    store: JudgeStore, clock: SetClock, tmp_path: Path
) -> None:
    lease = store.hold(published(store, tmp_path).id, "run", 60)
    assert store.leases() == (lease,)
    clock.jump_s(DAY_S)
    clock.pass_s(59)
    assert store.leases() == (lease,)
    clock.pass_s(2)
    assert store.leases() == ()


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_jump_retires_nothing_under_a_lease(
    jump_s: float, store: JudgeStore, clock: SetClock, serving: str, tmp_path: Path
) -> None:
    version = published(store, tmp_path).id
    lease = store.hold(version, "run-7", 60)
    clock.jump_s(jump_s)
    with pytest.raises(InUse, match=f"run-7 holds lease {lease.id}"):
        opened(tmp_path, clock).retire(version, "by a process that never saw the lease alive")
    assert version in {each.id for each in store.list()}


def test_a_lease_is_over_when_both_clocks_say_so(
    store: JudgeStore, clock: SetClock, serving: str, tmp_path: Path
) -> None:
    version = published(store, tmp_path).id
    lease = store.hold(version, "run-7", 60)
    renewed_s_ago(tmp_path, lease, 61)
    with pytest.raises(InUse):
        store.retire(version, "the store's clock alone")
    clock.pass_s(61)
    assert store.retire(version, "both").version == version
    with pytest.raises(UnknownVersion, match="retired"):
        store.hold(version, "run-7", 60, lease.id)


def test_nobody_takes_a_lease_of_a_retired_version(store: JudgeStore, serving: str, tmp_path: Path) -> None:
    version = published(store, tmp_path).id
    store.retire(version, "old")
    with pytest.raises(UnknownVersion, match="retired"):
        store.hold(version, "run", 60)
    assert store.leases() == ()


@pytest.mark.parametrize("version", ["judge-0123456789ab", "../judge-0123456789ab"])
def test_there_is_no_lease_of_what_is_not_there(version: str, store: JudgeStore) -> None:
    with pytest.raises(UnknownVersion):
        store.hold(version, "run", 60)


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf"), 8 * DAY_S])
def test_a_lease_has_a_bound(ttl_s: float, store: JudgeStore, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="ttl_s"):
        store.hold(published(store, tmp_path).id, "run", ttl_s)


def test_a_lease_is_one_version_s(store: JudgeStore, tmp_path: Path) -> None:
    first, second = published(store, tmp_path), published(store, tmp_path, "other")
    lease = store.hold(first.id, "run", 60)
    with pytest.raises(Refused, match=first.id):
        store.hold(second.id, "run", 60, lease.id)
    with pytest.raises(Refused, match="lease id"):
        store.hold(second.id, "run", 60, "../../x")


def test_a_broken_lease_retires_nothing(store: JudgeStore, serving: str, tmp_path: Path) -> None:
    version = published(store, tmp_path).id
    lease = store.hold(version, "run", 60)
    (tmp_path / "store" / "leases" / f"{lease.id}.json").write_text("{")
    with pytest.raises(CorruptEntry, match=lease.id):
        store.retire(version, "it may be this one's")


# ---------------------------------------------------------------------------------------------------- retiring

USES: dict[str, tuple[Callable[[JudgeStore, str, str], object], str]] = {
    "current": (lambda store, one, other: store.propose(state(2, one, other)), "it is current"),
    "resident": (lambda store, one, other: store.propose(state(2, other, one)), "it is resident"),
    "shadow": (lambda store, one, other: store.propose(state(2, other, shadow=one)), "it is the shadow"),
    "leased": (lambda store, one, other: store.hold(one, "run-7", 60), "run-7 holds lease"),
}


@pytest.mark.parametrize("case", USES)
def test_a_version_in_use_is_not_retired(case: str, store: JudgeStore, serving: str, tmp_path: Path) -> None:
    use, where = USES[case]
    version = published(store, tmp_path).id
    use(store, version, serving)
    before = store.desired()
    with pytest.raises(InUse, match=where) as raised:
        store.retire(version, "in the way")
    assert len(raised.value.where) == 1
    assert version in {each.id for each in store.list()}
    assert store.tombstones() == ()
    assert store.desired() == before


def test_the_base_of_an_adapter_is_in_use(store: JudgeStore, serving: str, tmp_path: Path) -> None:
    base = published(store, tmp_path).id
    lora = store.publish(Draft("lora", adapter(tmp_path / "adapter"), base, "lora"))
    with pytest.raises(InUse, match=f"{lora.id} adapts it"):
        store.retire(base, "old")
    store.retire(lora.id, "old")
    assert store.retire(base, "old").version == base


def test_an_id_is_never_used_again(store: JudgeStore, serving: str, tmp_path: Path) -> None:
    draft = Draft("judge", model(tmp_path / "model"), "base")
    version = store.publish(draft).id
    tombstone = store.retire(version, "old")
    assert store.tombstones() == (tombstone,)
    assert store.retire(version, "again") == tombstone
    for _ in range(2):
        with pytest.raises(Conflict, match="never used again"):
            store.publish(draft)  # the clock stands: it would be the same id
        with pytest.raises(UnknownVersion, match="retired"):
            store.propose(state(4, version, serving))
        store.collect(0)
    with pytest.raises(UnknownVersion):
        store.manifest(version)
    assert store.tombstones() == (tombstone,)


def test_retiring_the_previous_version_leaves_nothing_to_roll_back_to(store: JudgeStore, tmp_path: Path) -> None:
    first, second = published(store, tmp_path).id, published(store, tmp_path, "other").id
    store.propose(state(1, first))
    store.propose(state(2, second, previous=first))
    store.retire(first, "old", by="anna")
    found = store.desired()
    assert found is not None
    assert (found.number, found.current, found.previous, found.by) == (3, second, None, "anna")
    assert found.why == f"retired {first}"


def test_an_adapter_of_a_retired_base_is_not_published(store: JudgeStore, tmp_path: Path) -> None:
    base = published(store, tmp_path, "base").id
    tombstone = store.retire(base, "old")
    with pytest.raises(Refused, match=f"base_model: {base} is retired"):
        store.publish(Draft("lora", adapter(tmp_path / "late"), base, "lora"))
    assert store.retire(base, "again") == tombstone
    assert base not in [entry.id for entry in store.list()]


def test_what_is_not_there_can_not_be_retired(store: JudgeStore) -> None:
    with pytest.raises(UnknownVersion):
        store.retire("judge-0123456789ab", "why")
    assert store.tombstones() == ()


def test_a_retirement_that_was_cut_short_is_taken_back_where_the_version_is_used(
    store: JudgeStore, serving: str, tmp_path: Path
) -> None:
    (tmp_path / "store" / "tombstones").mkdir()
    (tmp_path / "store" / "tombstones" / f"{serving}.json").write_text("{}")
    assert store.collect(0).paths == ()
    store.fetch(serving)
    with pytest.raises(InUse):
        store.retire(serving, "again")
    assert [each.id for each in store.list()] == [serving]


@pytest.mark.parametrize("use", ["promote", "hold"])
def test_of_a_retirement_and_a_use_at_the_same_time_not_both_succeed(
    use: str, store: JudgeStore, serving: str, tmp_path: Path
) -> None:
    outcomes = []
    for seed in range(30):
        version = published(store, tmp_path, seed=seed).id
        other = opened(tmp_path)
        start = threading.Barrier(2)

        def retire(version: str = version, start: threading.Barrier = start) -> bool:
            start.wait(30)
            return _succeeds(lambda: store.retire(version, "race"))

        def take(version: str = version, start: threading.Barrier = start, other: JudgeStore = other) -> bool:
            found = other.desired()
            assert found is not None
            asked = state(found.number + 1, version)
            start.wait(30)
            return _succeeds(lambda: other.hold(version, "run", 60) if use == "hold" else other.propose(asked))

        with ThreadPoolExecutor(2) as pool:
            retired, taken = pool.submit(retire), pool.submit(take)
            outcomes.append((retired.result(), taken.result()))
        found = store.desired()
        assert found is not None
        is_current = found.current == version
        assert is_current == (use == "promote" and outcomes[-1][1])
        if is_current:
            store.propose(state(found.number + 1, serving))
    assert (True, True) not in outcomes
    assert any(retired or taken for retired, taken in outcomes)


def _succeeds(action: Callable[[], object]) -> bool:
    try:
        action()
    except StoreError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------- reports


def test_reports_come_back_and_old_ones_are_marked(store: JudgeStore, clock: SetClock, tmp_path: Path) -> None:
    shadow = {"version": "b", "counted": 3, "equal_share": 0.5}
    first = ReplicaReport("pod-1", "2026-01-02T03:04:05Z", 3, "a", {"a": "ready", "b": "loading"}, 7, "p", 2, shadow)
    second = ReplicaReport("pod-0", "2026-01-02T03:03:00Z", 0, "", {})
    store.report(first)
    store.report(second)
    assert [(each.replica, each.stale) for each in store.reports(60)] == [("pod-0", True), ("pod-1", False)]
    assert store.reports(60)[1] == first
    later = ReplicaReport("pod-1", "2026-01-03T03:04:05Z", 4, "b", {"b": "ready"})
    store.report(later)
    assert store.reports(60)[1].stale, "a time ahead of ours is as little to be trusted"
    with pytest.raises(Refused, match="replica"):
        store.report(ReplicaReport("../pod", "", 0, "", {}))


def test_a_broken_report_is_named(store: JudgeStore, tmp_path: Path) -> None:
    store.report(ReplicaReport("pod-1", "yesterday", 3, "a", {}))
    with pytest.raises(CorruptEntry, match="yesterday"):
        store.reports(60)
    (tmp_path / "store" / "replicas" / "pod-1.json").write_text("[]")
    with pytest.raises(CorruptEntry, match=r"replicas/pod-1\.json"):
        store.reports(60)
