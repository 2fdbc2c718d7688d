"""Grows the tree of one batch out of its jobs' prompts, on top of what is held from earlier batches."""

from __future__ import annotations

from typing import TypeAlias

from themis_judge.engines.base import Prompt
from themis_judge.engines.transformers.tree import Node
from themis_judge.lru import LRU

Segment: TypeAlias = tuple[int, ...]
Key: TypeAlias = "tuple[Key | None, Segment]"  # a segment and all that stands before it
Holder: TypeAlias = LRU[Key, Node]


def path_keys(prompt: Prompt) -> list[Key]:
    """The keys of a prompt's segments, from the root on."""
    keys: list[Key] = []
    for segment in prompt.segments:
        if segment:
            keys.append((keys[-1] if keys else None, segment))
    return keys


def held_depth(keys: list[Key], held: Holder) -> int:
    """How many leading segments need no computing. The last one always does: its hidden states are asked for."""
    for depth in range(len(keys) - 1, 0, -1):
        if keys[depth - 1] in held:
            return depth
    return 0


class BatchTree:
    """nodes: what a pass must compute, parents first; kept: id() of those whose keys and values are wanted."""

    def __init__(self, held: Holder) -> None:
        self._held = held
        self._fresh: dict[Key, Node] = {}
        self._children: dict[tuple[int, Segment], Node] = {}
        self.nodes: list[Node] = []
        self.kept: set[int] = set()

    def add(self, prompt: Prompt, keep_leaf: bool) -> tuple[Node, int]:
        """The prompt's last node, and how many of its tokens were held or shared."""
        keys = path_keys(prompt)
        depth = held_depth(keys, self._held)
        node: Node | None = None
        for key in keys[:depth]:
            node = self._held.get(key) or node  # asking for each keeps ancestors as young as what needs them
        shared = sum(len(key[1]) for key in keys[:depth])
        for key in keys[depth:]:
            known = self._fresh.get(key)
            if known is None:
                known = self._fresh[key] = self._plant(key[1], node)
            else:
                shared += len(key[1])
            node = known
            if key is not keys[-1] or keep_leaf:
                self.kept.add(id(known))
        assert node is not None, "a prompt holds at least one token"
        return node, shared

    def child(self, parent: Node, ids: Segment) -> Node:
        """A node below a prompt's last one; equal ones are the same."""
        known = self._children.get((id(parent), ids))
        if known is None:
            known = self._children[id(parent), ids] = self._plant(ids, parent)
        return known

    def hold(self) -> None:
        """After the pass: what was kept is held for later batches."""
        for key, node in self._fresh.items():
            if node.held is not None:
                self._held.put(key, node, len(node.ids))

    def _plant(self, ids: Segment, parent: Node | None) -> Node:
        node = Node(ids, parent)
        self.nodes.append(node)
        return node
