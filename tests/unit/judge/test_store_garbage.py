"""What is removed when it is asked for, and what never is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.judge.store_samples import SetClock, opened, published, state
from themis_judge.store import Conflict, Draft, JudgeStore, ReplicaReport
from themis_judge.store.cache import Cache
from themis_judge.store.local import LocalFiles

HOUR_S = 3600.0


def age(root: Path, seconds: float) -> None:
    for file in root.rglob("*"):
        if file.is_file():
            at_s = file.stat().st_mtime - seconds
            os.utime(file, (at_s, at_s))


def test_a_retired_version_s_files_go_after_a_while(tmp_path: Path) -> None:
    store = opened(tmp_path)
    kept, gone = published(store, tmp_path, "kept"), published(store, tmp_path, "gone")
    store.propose(state(1, kept.id))
    store.retire(gone.id, "old")
    assert store.collect(HOUR_S).paths == ()
    assert store.manifest(gone.id) == gone
    age(tmp_path / "store" / "tombstones", 2 * HOUR_S)
    freed = store.collect(HOUR_S)
    assert freed.paths[0] == f"versions/{gone.id}/manifest.json", (
        "first, or a crash would leave a version without files"
    )
    assert len(freed.paths) == 1 + len(gone.files)
    assert freed.bytes > gone.bytes
    assert [folder.name for folder in (tmp_path / "store" / "versions").iterdir()] == [kept.id]
    store.fetch(kept.id)


def test_what_a_replica_still_holds_stays(tmp_path: Path) -> None:
    clock = SetClock()
    store = opened(tmp_path, clock)
    kept, held = published(store, tmp_path, "kept"), published(store, tmp_path, "held")
    store.propose(state(1, kept.id))
    store.report(ReplicaReport("pod", "2026-01-02T03:04:05Z", 0, held.id, {held.id: "ready"}))
    store.retire(held.id, "old")
    age(tmp_path / "store", 2 * HOUR_S)
    store.report(ReplicaReport("pod", "2026-01-02T03:04:05Z", 0, held.id, {held.id: "ready"}))
    assert store.collect(HOUR_S).paths == ()
    clock.pass_s(2 * HOUR_S)
    assert f"versions/{held.id}/manifest.json" in store.collect(HOUR_S).paths


@pytest.mark.parametrize("standing", ["failed: of its health prompts", "no_room: 1 are resident"])
def test_what_a_replica_only_tried_goes(standing: str, tmp_path: Path) -> None:
    store = opened(tmp_path, SetClock())
    kept, tried = published(store, tmp_path, "kept"), published(store, tmp_path, "tried")
    store.propose(state(1, kept.id))
    store.retire(tried.id, "bad")
    age(tmp_path / "store", 2 * HOUR_S)
    store.report(ReplicaReport("pod", "2026-01-02T03:04:05Z", 1, kept.id, {kept.id: "ready", tried.id: standing}))
    assert f"versions/{tried.id}/manifest.json" in store.collect(HOUR_S).paths


def test_leases_that_ran_out_and_reports_of_the_dead_go(tmp_path: Path) -> None:
    clock = SetClock()
    store = opened(tmp_path, clock)
    version = published(store, tmp_path).id
    over = store.hold(version, "dead", 60)
    store.report(ReplicaReport("dead", "2026-01-02T03:04:05Z", 0, "", {}))
    age(tmp_path / "store", 2 * HOUR_S)
    clock.pass_s(2 * HOUR_S)
    alive = store.hold(version, "alive", 60)
    store.report(ReplicaReport("alive", "2026-01-02T05:04:05Z", 0, "", {}))
    assert set(store.collect(HOUR_S).paths) == {f"leases/{over.id}.json", "replicas/dead.json"}
    assert store.leases() == (alive,)
    assert [report.replica for report in store.reports(HOUR_S)] == ["alive"]


def test_published_versions_and_the_log_stay_whatever_their_age(tmp_path: Path) -> None:
    store = opened(tmp_path)
    first, second = published(store, tmp_path), published(store, tmp_path, "unused")
    store.propose(state(1, first.id))
    store.propose(state(2, first.id))
    age(tmp_path / "store", 1000 * HOUR_S)
    assert store.collect(HOUR_S).paths == ()
    assert store.list() == tuple(sorted([first, second], key=lambda each: each.id))
    assert opened(tmp_path).desired() == state(2, first.id)


class CleanedAway(LocalFiles):
    """Cleaning takes place while a publisher puts the manifest: the worst moment there is."""

    def create(self, path: str, data: bytes) -> None:
        if path.endswith("manifest.json"):
            JudgeStore(LocalFiles(self._root), Cache(self._root.parent / "cache", 0), SetClock()).collect(0)
        super().create(path, data)


def test_a_publisher_that_is_cleaned_away_says_so_and_leaves_no_version(tmp_path: Path) -> None:
    from tests.unit.judge.store_samples import model

    slow = JudgeStore(CleanedAway(tmp_path / "store"), Cache(tmp_path / "cache", 0), SetClock())
    with pytest.raises(Conflict, match="cleaned away"):
        slow.publish(Draft("judge", model(tmp_path / "model"), "base"))
    assert opened(tmp_path).list() == ()
    assert not list((tmp_path / "store").rglob("manifest.json"))
