"""Where things lie in a store, and which names they may have."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from themis_judge.store.errors import Refused

VERSIONS, DESIRED, LEASES, REPLICAS, TOMBSTONES = "versions", "desired", "leases", "replicas", "tombstones"
CLOCK = "clock"
FOLDERS = (VERSIONS, DESIRED, LEASES, REPLICAS, TOMBSTONES, CLOCK)
WEIGHTS, SCENARIOS = "judge", "scenarios"  # folders within a version's files

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}-[0-9a-f]{12}")


def is_version_id(text: str) -> bool:
    return _VERSION.fullmatch(text) is not None


def checked_name(text: str, what: str) -> str:
    """A name that can be a file's, wherever the store lies. Raises Refused."""
    if _NAME.fullmatch(text) is None:
        raise Refused(
            f"{what}: {text!r} is no name: up to 100 letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return text


def is_inside(path: str) -> bool:
    """Whether a relative path stays below where it starts, and is spelt in the one way that it can be."""
    parts = path.split("/")
    return bool(path) and str(PurePosixPath(path)) == path and ".." not in parts and parts[0] != "" and "\\" not in path


def manifest_path(version: str) -> str:
    return f"{VERSIONS}/{version}/manifest.json"


def files_path(version: str) -> str:
    return f"{VERSIONS}/{version}/files"


def tombstone_path(version: str) -> str:
    return f"{TOMBSTONES}/{version}.json"


def lease_path(lease: str) -> str:
    return f"{LEASES}/{lease}.json"


def replica_path(replica: str) -> str:
    return f"{REPLICAS}/{replica}.json"


def desired_path(number: int) -> str:
    return f"{DESIRED}/{number:08d}.json"
