"""A forward pass over a tree of segments: each distinct segment of a batch is computed once.

All new tokens of a batch stand in one row without padding. A segment attends to its ancestors, whose keys and
values are held from earlier passes or stand elsewhere in the same row, and causally to itself. Attention is
computed by tiles that depend on the segment alone, so that a prompt's numbers don't depend on its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

IMPLEMENTATION = "themis_tree"
_TILE = 128  # queries at a time: the scores of a tile stay within the processor's cache

Held = list[tuple[torch.Tensor, torch.Tensor]]  # per layer: keys and values [Hk, n, D]


@dataclass(slots=True, eq=False)
class Node:
    """Tokens that follow those of `parent`. held: their keys and values, once computed and kept."""

    ids: tuple[int, ...]
    parent: Node | None = None
    held: Held | None = None

    def path(self) -> list[Node]:
        """From the root to this node."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    def tokens(self) -> list[int]:
        return [token for node in self.path() for token in node.ids]


@dataclass(slots=True, eq=False)
class Buffer:
    """Keys and values of a text that grows token by token. keys, values: per layer [Hk, capacity, D]."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    length: int

    @classmethod
    def after(cls, node: Node, room: int) -> Buffer:
        """Of everything up to and with `node`, all of it held, with room for `room` more tokens."""
        path = node.path()
        keys: list[torch.Tensor] = []
        values: list[torch.Tensor] = []
        length = sum(len(step.ids) for step in path)
        assert path[0].held is not None
        for layer in range(len(path[0].held)):
            for side, target in ((0, keys), (1, values)):
                parts = [step.held[layer][side] for step in path if step.held]
                whole = parts[0].new_empty(parts[0].shape[0], length + room, parts[0].shape[2])
                torch.cat(parts, 1, out=whole[:, :length])
                target.append(whole)
        return cls(keys, values, length)


@dataclass(slots=True, eq=False)
class Row:
    """What stands at [start, stop) of a pass. ancestors: held nodes, or spans of the same pass; kept: where its
    keys and values go; buffer: instead of ancestors, for a single token of a growing text."""

    start: int
    stop: int
    ancestors: list[Held | tuple[int, int]] = field(default_factory=list)
    kept: Held | None = None
    buffer: Buffer | None = None


@dataclass(slots=True, eq=False)
class Pass:
    """The rows of one forward pass, with its token ids and positions."""

    rows: list[Row]
    ids: list[int]
    positions: list[int]


def plan_nodes(nodes: Sequence[Node], kept: set[int]) -> tuple[Pass, dict[int, Row]]:
    """A pass over nodes, parents first; those whose id() is in `kept` get their keys and values held."""
    plan = Pass([], [], [])
    rows: dict[int, Row] = {}
    for node in nodes:
        row = Row(len(plan.ids), len(plan.ids) + len(node.ids), kept=[] if id(node) in kept else None)
        begin = 0
        for ancestor in node.path()[:-1]:
            inside = rows.get(id(ancestor))
            if inside is not None:
                row.ancestors.append((inside.start, inside.stop))
            else:
                assert ancestor.held is not None
                row.ancestors.append(ancestor.held)
            begin += len(ancestor.ids)
        plan.rows.append(row)
        plan.ids += node.ids
        plan.positions += range(begin, begin + len(node.ids))
        rows[id(node)] = row
    return plan, rows


def plan_steps(steps: Sequence[tuple[int, Buffer]]) -> Pass:
    """A pass over one next token each of several growing texts."""
    rows = [Row(index, index + 1, buffer=buffer) for index, (_, buffer) in enumerate(steps)]
    return Pass(rows, [token for token, _ in steps], [buffer.length for _, buffer in steps])


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: None, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it. query [1, H, T, D]; key, value [1, Hk, T, D] -> [1, T, H, D]."""
    unknown = [name for name in ("softcap", "s_aux", "sliding_window") if kwargs.get(name) is not None]
    if unknown:
        raise ValueError(f"attention with {', '.join(unknown)} is not known here")
    plan: Pass = kwargs["themis_pass"]
    keys, values = key[0], value[0]
    heads, tokens, width = query.shape[1:]
    groups = heads // keys.shape[0]
    queries = (query[0] * kwargs["scaling"]).view(keys.shape[0], groups, tokens, width)
    out = torch.empty_like(queries)
    unseen = torch.full((_TILE, _TILE), -torch.inf, dtype=query.dtype, device=query.device).triu_(1)
    for row in plan.rows:
        if row.buffer is not None:
            _attend_step(module.layer_idx, row, queries, keys, values, out)
        else:
            _attend_row(module.layer_idx, row, queries, keys, values, out, unseen)
    return out.view(heads, tokens, width).transpose(0, 1).unsqueeze(0), None


def _attend_row(
    layer: int,
    row: Row,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    out: torch.Tensor,
    unseen: torch.Tensor,
) -> None:
    own = slice(row.start, row.stop)
    if row.kept is not None:
        row.kept.append((keys[:, own].contiguous(), values[:, own].contiguous()))
    before = [
        (keys[:, a[0] : a[1]], values[:, a[0] : a[1]]) if isinstance(a, tuple) else a[layer] for a in row.ancestors
    ]
    seen = torch.cat([*(pair[0] for pair in before), keys[:, own]], 1)
    worth = torch.cat([*(pair[1] for pair in before), values[:, own]], 1)
    prefix = worth.shape[1] - (row.stop - row.start)
    kv_heads, groups, _, width = queries.shape
    for start in range(row.start, row.stop, _TILE):
        stop = min(start + _TILE, row.stop)
        count, end = stop - start, prefix + stop - row.start
        tile = queries[:, :, start:stop].reshape(kv_heads, groups * count, width)
        scores = torch.bmm(tile, seen[:, :end].transpose(1, 2))
        scores.view(kv_heads, groups, count, end)[..., end - count :] += unseen[:count, :count]
        mixed = torch.bmm(torch.softmax(scores, -1), worth[:, :end])
        out[:, :, start:stop] = mixed.view(kv_heads, groups, count, width)


def _attend_step(
    layer: int, row: Row, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, out: torch.Tensor
) -> None:
    buffer = row.buffer
    assert buffer is not None
    at = buffer.length
    buffer.keys[layer][:, at] = keys[:, row.start]
    buffer.values[layer][:, at] = values[:, row.start]
    scores = queries[:, :, row.start] @ buffer.keys[layer][:, : at + 1].transpose(1, 2)
    out[:, :, row.start] = torch.softmax(scores, -1) @ buffer.values[layer][:, : at + 1]


AttentionInterface.register(IMPLEMENTATION, attend)
AttentionMaskInterface.register(IMPLEMENTATION, lambda *args, **kwargs: None)  # the tiles mask by themselves
