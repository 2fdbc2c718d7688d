"""Manifests: sealed by an id that follows from their contents, and checked against it when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from themis_judge.store import layout
from themis_judge.store.codec import BadJson, canonical, decode, parse, to_plain
from themis_judge.store.errors import CorruptVersion, UnknownVersion
from themis_judge.store.files import Files, NotThere
from themis_judge.store.types import FORMAT, BrokenVersion, Manifest, Tombstone

_DIGEST_CHARACTERS = 12


def sealed(manifest: Manifest) -> Manifest:
    """With the id that its other contents give it."""
    return replace(manifest, id=_id_of(to_plain(manifest, Manifest)))


def _id_of(plain: Mapping[str, Any]) -> str:
    content = {key: value for key, value in plain.items() if key != "id"}
    return f"{plain.get('name')}-{hashlib.sha256(canonical(content)).hexdigest()[:_DIGEST_CHARACTERS]}"


def read_manifest(files: Files, version: str) -> Manifest:
    """Raises UnknownVersion, and CorruptVersion for a manifest that isn't the one that was published."""
    if not layout.is_version_id(version):
        raise UnknownVersion(f"{version!r} is no version's id")
    path = layout.manifest_path(version)
    try:
        return parse_manifest(files.read(path), version)
    except NotThere as error:
        raise UnknownVersion(f"{version}: the store has no such version") from error
    except BadJson as error:
        raise CorruptVersion(f"{path}: {error}") from error


def parse_manifest(data: bytes, version: str) -> Manifest:
    """Raises BadJson."""
    plain = parse(data)
    if plain.get("format") != FORMAT:
        raise BadJson(f"format: {plain.get('format')!r}; this software reads {FORMAT}")
    computed = _id_of(plain)
    if (plain.get("id"), computed) != (version, version):
        raise BadJson(f"its contents were changed: they give the id {computed}, not {version}")
    manifest = decode(Manifest, plain)
    for file in manifest.files:
        if not layout.is_inside(file.path):
            raise BadJson(f"files: {file.path!r} leads out of the version")
    return manifest


def list_versions(files: Files) -> tuple[Manifest | BrokenVersion, ...]:
    """What is published and not retired, by id. A folder without a manifest is no version."""
    retired = {entry.name.removesuffix(".json") for entry in files.children(layout.TOMBSTONES)}
    found: list[Manifest | BrokenVersion] = []
    for entry in files.children(layout.VERSIONS):
        if not entry.is_folder or entry.name in retired:
            continue
        try:
            found.append(read_manifest(files, entry.name))
        except UnknownVersion:
            continue
        except CorruptVersion as error:
            found.append(BrokenVersion(entry.name, str(error)))
    return tuple(found)


def read_tombstone(files: Files, version: str) -> Tombstone | None:
    path = layout.tombstone_path(version)
    try:
        return decode(Tombstone, parse(files.read(path)), lenient=True)
    except NotThere:
        return None
    except BadJson:
        return Tombstone(version, "", "not readable")  # that it is there is what counts
