"""Ids by derivation: the same input gives the same ids however often it is handled, so that doubles can be told.

Each part goes into the digest with its length before it, so that no two lists of parts spell the same bytes.
"""

from __future__ import annotations

import base64
import hashlib

ID_CHARS = 26
"""In base 32: 130 bits, far beyond what could collide."""


def derived(input_id: str, stage: str, index: int = 0) -> str:
    """The id of what `stage` makes of an input, the `index`th of its outputs. Raises ValueError without an input id."""
    if not input_id or not stage or index < 0:
        raise ValueError("an id is derived from an input's id, a stage and an index from 0")
    return _digest("derived", input_id, stage, str(index))


def ingress(source: str, producer_id: str, topic: str, partition: int, offset: int) -> str:
    """The id of an input: from the source and its own id where it gave one, so that what it sends twice is one input;
    else from the record's place, so that a record read twice is one."""
    if producer_id:
        return _digest("producer", topic, source, producer_id)
    return _digest("place", topic, str(partition), str(offset))


def dead_letter(stage: str, topic: str, partition: int, offset: int) -> str:
    """The id of a record's dead letter at one stage; the same if it fails there again after a replay."""
    return _digest("dead", stage, topic, str(partition), str(offset))


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return base64.b32encode(digest.digest()).decode("ascii").lower()[:ID_CHARS]
