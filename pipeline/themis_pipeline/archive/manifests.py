"""Manifests: which data files hold which offsets of a source partition.

A manifest covers the offsets [start, end) of one partition and is named by its start. It begins where the one before it
ends, the first at 0, and of several writers one alone can create the next: so manifests form one chain, and no offset
is archived twice, however many writers there are and whenever they die. Offsets without a record (control records, what
retention removed before anybody read it) lie within a manifest like others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from themis_judge.store.codec import BadJson, decode, encode, parse
from themis_judge.store.files import Files, NotThere
from themis_pipeline.archive.errors import CorruptArchive

FORMAT = 1
MANIFESTS = "manifests"
_NAME = re.compile(r"([0-9]{20})\.json")
_PARTITION = re.compile(r"partition=([0-9]{5})")
_TOPIC = "topic="


@dataclass(frozen=True, slots=True)
class DataFile:
    """day: of the records' `at`, in UTC."""

    path: str
    rows: int
    bytes: int
    sha256: str
    day: str
    scenario: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """schema: the version of the data files' columns. nonce: tells apart two writers' manifests of equal contents, so
    that a creation whose answer was lost is known for one's own or another's."""

    format: int
    schema: int
    topic: str
    partition: int
    start: int
    end: int
    files: tuple[DataFile, ...]
    nonce: str

    @property
    def path(self) -> str:
        return f"{folder(self.topic, self.partition)}/{self.start:020d}.json"

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


def folder(topic: str, partition: int) -> str:
    return f"{MANIFESTS}/{_TOPIC}{topic}/partition={partition:05d}"


def sources(files: Files) -> list[tuple[str, int]]:
    """Every topic and partition that has something in the archive."""
    found = []
    for topic in files.children(MANIFESTS):
        for entry in files.children(f"{MANIFESTS}/{topic.name}"):
            match = _PARTITION.fullmatch(entry.name)
            if match is not None and topic.name.startswith(_TOPIC):
                found.append((topic.name.removeprefix(_TOPIC), int(match[1])))
    return sorted(found)


def chain(files: Files, topic: str, partition: int) -> tuple[Manifest, ...]:
    """All manifests of a partition in order. Raises CorruptArchive where one is missing or overlaps another."""
    found: list[Manifest] = []
    for start in _starts(files, topic, partition):
        expected = found[-1].end if found else 0
        if start != expected:
            raise CorruptArchive(f"{folder(topic, partition)}: a manifest starts at {start}, expected at {expected}")
        found.append(_read(files, topic, partition, start))
    return tuple(found)


def end(files: Files, topic: str, partition: int) -> int:
    """The offset after the last one that is archived; 0 where none is."""
    starts = _starts(files, topic, partition)
    return _read(files, topic, partition, starts[-1]).end if starts else 0


def to_bytes(manifest: Manifest) -> bytes:
    return encode(manifest)


def _starts(files: Files, topic: str, partition: int) -> list[int]:
    matches = (_NAME.fullmatch(entry.name) for entry in files.children(folder(topic, partition)))
    return sorted(int(match[1]) for match in matches if match)


def _read(files: Files, topic: str, partition: int, start: int) -> Manifest:
    path = f"{folder(topic, partition)}/{start:020d}.json"
    try:
        plain = parse(files.read(path))
        if plain.get("format") != FORMAT:
            raise CorruptArchive(f"{path}: its format is {plain.get('format')!r}; this software reads {FORMAT}")
        manifest = decode(Manifest, plain, lenient=True)
    except (BadJson, NotThere) as error:
        raise CorruptArchive(f"{path}: {error}") from error
    if manifest.path != path or manifest.end <= manifest.start:
        raise CorruptArchive(f"{path}: speaks of other offsets than its name")
    return manifest
