"""Which replica a conversation belongs to: rendezvous hashing (highest random weight).

Each (conversation, address) pair has a weight; the addresses in descending order of weight are the conversation's
preferences. An address that comes or goes moves only the conversations that are its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from themis_proto.v1 import judge_pb2 as pb

DIGEST_BYTES = 16


def digest(messages: Iterable[pb.Message]) -> bytes:
    """Of a conversation: equal conversations have equal digests, in any process and any protobuf release."""
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for message in messages:
        encoded = message.SerializeToString(deterministic=True)
        hashed.update(len(encoded).to_bytes(8, "big"))
        hashed.update(encoded)
    return hashed.digest()


def ranked(conversation: bytes, addresses: Iterable[str]) -> Sequence[str]:
    """The addresses in the conversation's order of preference."""
    return sorted(addresses, key=lambda address: (_weight(conversation, address), address), reverse=True)


def _weight(conversation: bytes, address: str) -> bytes:
    return hashlib.blake2b(address.encode(), key=conversation, digest_size=8).digest()
