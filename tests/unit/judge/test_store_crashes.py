"""Publishers that are killed, and disks that are full: never half a version, and nothing that stays for ever."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.unit.judge.store_samples import model, opened

MODULE = ["-m", "tests.unit.judge.store_process"]


def test_a_publisher_killed_at_any_step_leaves_no_half_version(tmp_path: Path) -> None:
    weights = model(tmp_path / "model", size=4096)
    root = tmp_path / "store"
    arguments = [sys.executable, *MODULE, "die", str(root), str(tmp_path / "cache"), str(weights)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=240)
    ends = json.loads(done.stdout)
    assert len(ends) > 30, "each file and folder is a step at least"
    assert [end["signal"] for end in ends] == [9] * (len(ends) - 1) + [0]
    assert ends[0]["listed"] == []
    assert len(ends[-1]["listed"]) >= 1

    store = opened(tmp_path)
    assert [version.id for version in store.list()] == ends[-1]["listed"]
    for version in ends[-1]["listed"]:
        assert {file.name for file in (store.fetch(version) / "judge").iterdir() if not file.name.startswith(".")} == {
            file.name for file in weights.iterdir()
        }

    versions = root / "versions"
    assert len(list(versions.iterdir())) > len(ends[-1]["listed"]), "some died on the way"
    assert store.collect(3600).paths == (), "young leftovers may belong to a publisher at work"
    freed = store.collect(0)
    assert freed.bytes > 0
    assert sorted({file.relative_to(versions).parts[0] for file in versions.rglob("*") if file.is_file()}) == [
        version.id for version in store.list()
    ]
    assert list(root.rglob(".aside-*")) == []
    assert [version.id for version in store.list()] == ends[-1]["listed"]


def test_a_full_disk_is_said_and_leaves_nothing_half(tmp_path: Path) -> None:
    """A file system of 256 KiB where the machine lets us mount one, else a limit on what the process may write."""
    root = tmp_path / "disk" / "store"
    root.parent.mkdir()
    large = model(tmp_path / "large", size=300_000)
    fill = [sys.executable, *MODULE, "fill", str(root)]
    mount = 'mount -t tmpfs -o size=256k disk "$1" && ln -s "$2" "$1/large" && shift 2 && exec "$@"'
    namespace = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if _works([*namespace, "mount -t tmpfs disk /mnt"]):
        command = [*namespace, mount, "sh", str(root.parent), str(large), *fill, "0"]
    else:
        (root.parent / "large").symlink_to(large)
        command = [*fill, "100000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "No space left" in found["problem"] or "File too large" in found["problem"]
    assert found["aside"] == []
    assert found["right"], "what was there is there, and there is room again"


def _works(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
