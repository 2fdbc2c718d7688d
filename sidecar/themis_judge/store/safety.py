"""What may go into a version: data that loading can't turn into running code, and nothing by way of a link."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from themis_judge.store import layout
from themis_judge.store.errors import Refused
from themis_judge.store.types import Draft, Kind

_DATA = {".safetensors", ".json", ".txt", ".jinja", ".model", ".md"}
_DATA_NAMES = {"LICENSE", "NOTICE"}
_CODE = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".pyc", ".so"}
_NEEDED: dict[Kind, tuple[str, ...]] = {
    "full": ("config.json",),
    "lora": ("adapter_config.json", "adapter_model.safetensors"),
}
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


@dataclass(frozen=True, slots=True)
class Source:
    """A file to publish: its path in the version, where it lies, and its size and time of change when looked at."""

    path: str
    file: Path
    bytes: int
    modified_ns: int

    def changed(self) -> bool:
        now = self.file.lstat()
        return (now.st_size, now.st_mtime_ns) != (self.bytes, self.modified_ns)


def sources(draft: Draft) -> list[Source]:
    """The draft's files, by path. Raises Refused, naming the file and what is wrong with it."""
    found = _files(draft.weights, layout.WEIGHTS)
    for source in found:
        _check_weight(source)
    _check_kind(draft, {source.path.removeprefix(f"{layout.WEIGHTS}/") for source in found})
    if draft.scenarios is not None:
        scenarios = _files(draft.scenarios, layout.SCENARIOS)
        for source in scenarios:
            if source.file.suffix != ".yaml" or source.path.count("/") > 1:
                raise Refused(f"{source.file}: a folder of scenarios holds *.yaml files and nothing else")
        found += scenarios
    return sorted(found, key=lambda source: source.path)


def _files(folder: Path, name: str) -> list[Source]:
    root = folder.expanduser().resolve()  # that the folder itself is reached by a link is the caller's business
    if not root.is_dir():
        raise Refused(f"{folder}: no such folder")
    found = []
    for parent, folders, files in os.walk(root, onerror=_unreadable):
        for child in sorted([*folders, *files]):
            path = Path(parent, child)
            state = path.lstat()
            if stat.S_ISLNK(state.st_mode):
                raise Refused(f"{path}: is a link; publish a copy (cp -rL) that holds the file itself")
            if stat.S_ISREG(state.st_mode):
                inside = path.relative_to(root).as_posix()
                if not layout.is_inside(inside):
                    raise Refused(f"{path}: has a name that can't be stored")
                found.append(Source(f"{name}/{inside}", path, state.st_size, state.st_mtime_ns))
            elif not stat.S_ISDIR(state.st_mode):
                raise Refused(f"{path}: is neither a file nor a folder")
    return found


def _unreadable(error: OSError) -> None:
    raise Refused(f"{error.filename}: {error.strerror}") from error


def _check_weight(source: Source) -> None:
    suffix = source.file.suffix.lower()
    if suffix in _CODE:
        raise Refused(f"{source.file}: loading *{suffix} files can run code; publish weights as safetensors")
    if suffix not in _DATA and source.file.name not in _DATA_NAMES:
        raise Refused(f"{source.file}: is of no known kind; a version holds {', '.join(sorted(_DATA))}")
    if suffix == ".safetensors":
        _check_tensors(source)


def _check_kind(draft: Draft, names: set[str]) -> None:
    for name in _NEEDED[draft.kind]:
        if name not in names:
            raise Refused(f"{draft.weights / name}: is missing; a version of kind {draft.kind} needs it")
    tensors = {name for name in names if name.endswith(".safetensors")}
    if draft.kind == "lora" and tensors != {"adapter_model.safetensors"}:
        extra = min(tensors - {"adapter_model.safetensors"})
        raise Refused(f"{draft.weights / extra}: an adapter's folder holds adapter_model.safetensors alone")
    if draft.kind == "full" and "adapter_config.json" in names:
        raise Refused(f"{draft.weights / 'adapter_config.json'}: is an adapter's; publish it with kind lora")
    if not any("/" not in name for name in tensors):
        raise Refused(f"{draft.weights}: holds no *.safetensors file")
    _check_index(draft.weights / "model.safetensors.index.json", tensors)


def _check_index(index: Path, tensors: set[str]) -> None:
    if not index.is_file():
        return
    try:
        shards = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{index}: is no index of safetensors") from error
    missing = sorted(map(str, shards - tensors))
    if missing:
        raise Refused(f"{index}: names {missing[0]}, which is missing")


def _check_tensors(source: Source) -> None:
    """That the file is what its name says, and whole: its header covers its bytes to the last."""
    with source.file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if source.bytes < 8 or length > min(_MAX_HEADER_BYTES, source.bytes - 8):
            raise Refused(f"{source.file}: is no safetensors file, or cut short")
        header = stream.read(length)
    try:
        tensors: dict[str, Any] = json.loads(header)
        ends = [int(entry["data_offsets"][1]) for name, entry in tensors.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise Refused(f"{source.file}: its header is none of safetensors") from error
    if 8 + length + max(ends, default=0) != source.bytes:
        raise Refused(f"{source.file}: is not as long as its header says")
