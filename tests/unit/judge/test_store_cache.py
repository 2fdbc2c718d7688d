"""The local cache of a store that can't be read in place."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.judge.store_samples import FarFiles, SetClock, far, opened, published
from themis_judge.store import CacheFull, CorruptVersion, JudgeStore, Manifest, StoreUnavailable
from themis_judge.store.cache import Cache


@pytest.fixture
def versions(tmp_path: Path) -> list[Manifest]:
    store = opened(tmp_path)
    return [published(store, tmp_path, seed=10 * seed) for seed in range(3)]


def cached(tmp_path: Path, cache: str = "cache") -> set[str]:
    return {folder.name for folder in (tmp_path / cache).iterdir()}


def test_a_version_is_fetched_once(versions: list[Manifest], tmp_path: Path) -> None:
    store = far(tmp_path)
    folder = store.fetch(versions[0].id)
    assert folder == tmp_path / "cache" / versions[0].id / "files"
    assert {file.name for file in (folder / "judge").iterdir()} == {
        file.path.removeprefix("judge/") for file in versions[0].files
    }
    for file in (tmp_path / "store" / "versions" / versions[0].id / "files" / "judge").iterdir():
        file.unlink()  # what is cached needs no second download
    assert store.fetch(versions[0].id) == far(tmp_path).fetch(versions[0].id) == folder


def test_the_one_unused_longest_goes_first_and_none_in_use(versions: list[Manifest], tmp_path: Path) -> None:
    first, second, third = versions
    store = far(tmp_path, cache_bytes=2 * first.bytes)
    for version in (first, second):
        store.fetch(version.id)
    with pytest.raises(CacheFull, match=third.id):
        store.fetch(third.id)
    assert cached(tmp_path) == {first.id, second.id}
    store.keep(())
    os.utime(tmp_path / "cache" / second.id, (1, 1))
    store.fetch(third.id)
    assert cached(tmp_path) == {first.id, third.id}
    with pytest.raises(CacheFull):
        far(tmp_path, cache_bytes=first.bytes - 1, cache="small").fetch(first.id)


def test_what_else_lies_in_the_folder_neither_counts_nor_goes(versions: list[Manifest], tmp_path: Path) -> None:
    first, second, _ = versions
    mine = tmp_path / "cache" / "my-models" / "weights"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(bytes(10 * first.bytes))
    os.utime(mine.parent, (1, 1))
    store = far(tmp_path, cache_bytes=first.bytes)
    store.fetch(first.id)
    store.keep(())
    store.fetch(second.id)
    assert cached(tmp_path) == {"my-models", second.id}
    assert mine.exists()


def test_what_is_not_kept_goes_and_the_rest_stays(versions: list[Manifest], tmp_path: Path) -> None:
    first, second, third = versions
    store = far(tmp_path, cache_bytes=2 * first.bytes)
    for version in (first, second):
        store.fetch(version.id)
    store.keep((second.id,))
    store.fetch(third.id)
    assert cached(tmp_path) == {second.id, third.id}


def test_a_full_disk_leaves_no_handle_and_no_folder(
    versions: list[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, handles = far(tmp_path), Path("/proc/self/fd")

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        before = len(list(handles.iterdir()))
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="No space left"):
                store.fetch(versions[0].id)
        assert len(list(handles.iterdir())) == before
    assert cached(tmp_path) == set()
    store.fetch(versions[0].id)


def test_another_process_s_version_is_in_use_until_it_dies(versions: list[Manifest], tmp_path: Path) -> None:
    first, second, _ = versions
    store = far(tmp_path, cache_bytes=first.bytes)
    code = (
        "import sys; from pathlib import Path; from tests.unit.judge.store_samples import far\n"
        "store = far(Path(sys.argv[1])); store.fetch(sys.argv[2]); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), first.id], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(CacheFull):
            store.fetch(second.id)
        other.kill()
        other.wait(30)
    store.fetch(second.id)
    assert cached(tmp_path) == {second.id}


@pytest.mark.parametrize("damage", ["altered", "missing", "extra"])
def test_a_damaged_copy_is_fetched_again(damage: str, versions: list[Manifest], tmp_path: Path) -> None:
    before = far(tmp_path)
    file = before.fetch(versions[0].id) / "judge" / "config.json"
    before.close()
    right = file.read_bytes()
    if damage == "altered":
        file.write_bytes(right.replace(b"tiny", b"tinY"))
    elif damage == "missing":
        file.unlink()
    else:
        (file.parent / "extra.json").write_text("{}")
    folder = far(tmp_path).fetch(versions[0].id)
    assert (folder / "judge" / "config.json").read_bytes() == right
    assert not (folder / "judge" / "extra.json").exists()


def test_a_damaged_copy_that_another_uses_is_neither_given_out_nor_taken_away(
    versions: list[Manifest], tmp_path: Path
) -> None:
    other = far(tmp_path)
    file = other.fetch(versions[0].id) / "judge" / "config.json"
    file.write_bytes(file.read_bytes().replace(b"tiny", b"tinY"))
    store = far(tmp_path)
    with pytest.raises(CorruptVersion, match="another process uses it"):
        store.fetch(versions[0].id)
    assert cached(tmp_path) == {versions[0].id}
    other.close()
    store.fetch(versions[0].id)
    assert b"tiny" in file.read_bytes()


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_damaged_store_puts_nothing_into_the_cache(damage: str, versions: list[Manifest], tmp_path: Path) -> None:
    file = tmp_path / "store" / "versions" / versions[0].id / "files" / "judge" / "config.json"
    if damage == "altered":
        file.write_bytes(file.read_bytes().replace(b"tiny", b"tinY"))
    else:
        file.unlink()
    with pytest.raises(CorruptVersion, match=r"judge/config\.json"):
        far(tmp_path).fetch(versions[0].id)
    assert cached(tmp_path) == set()


def test_what_a_dead_process_left_half_made_goes(versions: list[Manifest], tmp_path: Path) -> None:
    left = tmp_path / "cache" / ".making-1234"
    (left / "files").mkdir(parents=True)
    (left / "files" / "model.safetensors").write_bytes(b"x" * (1 << 20))
    far(tmp_path, cache_bytes=versions[0].bytes).fetch(versions[0].id)
    assert cached(tmp_path) == {versions[0].id}


class Failing(FarFiles):
    def get(self, path: str, target: Path) -> None:
        if path.endswith("tokenizer.json"):
            raise StoreUnavailable("the line is down")
        super().get(path, target)


def test_a_download_that_fails_leaves_nothing(versions: list[Manifest], tmp_path: Path) -> None:
    store = JudgeStore(Failing(tmp_path / "store"), Cache(tmp_path / "cache", 1 << 20), SetClock())
    with pytest.raises(StoreUnavailable, match="the line is down"):
        store.fetch(versions[0].id)
    assert cached(tmp_path) == set()


def test_many_stores_fetch_the_same_at_a_time(versions: list[Manifest], tmp_path: Path) -> None:
    stores = [far(tmp_path) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        folders = set(pool.map(lambda store: store.fetch(versions[0].id), stores))
    assert folders == {tmp_path / "cache" / versions[0].id / "files"}
    assert cached(tmp_path) == {versions[0].id}
    for store in stores:
        store.close()


def test_a_cache_that_can_not_be_made_is_said(versions: list[Manifest], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="the local cache"):
        far(tmp_path, cache="file/cache").fetch(versions[0].id)
