"""How many records of each scenario and rating are taken, and which."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeVar

from themis_pipeline.select.units import Unit, lot

Order = Literal["highest", "middle", "random"]
K = TypeVar("K", bound=str)


def allotted(total: int, weights: Mapping[K, float]) -> dict[K, int]:
    """`total` in whole parts as close to the weights as whole parts can be: by largest remainder, ties by name. No part
    is larger than its weight where the weights are whole and add up to `total` or more."""
    whole = math.fsum(weights.values())
    if whole <= 0:
        return dict.fromkeys(sorted(weights), 0)
    exact = {key: total * weights[key] / whole for key in sorted(weights)}
    parts = {key: math.floor(value) for key, value in exact.items()}
    left = total - sum(parts.values())
    for key in sorted(exact, key=lambda key: (parts[key] - exact[key], key))[:left]:
        parts[key] += 1
    return parts


def quotas(
    available: Mapping[str, int], top: int | None, share: float | None, ratios: Mapping[str, float]
) -> tuple[dict[str, int], dict[str, int]]:
    """Records to take of each scenario, and by scenario how many more were asked for than there are. With ratios they
    hold: what one scenario lacks is not made up for by others. With neither `top` nor `share`: as many as there are,
    or as the ratios allow."""
    if not ratios:
        if top is not None:
            total = sum(available.values())
            return allotted(min(top, total), available), _lacking("all", top - total)
        return {key: math.floor((1.0 if share is None else share) * n + 0.5) for key, n in available.items()}, {}
    named = {key: ratio for key, ratio in ratios.items() if ratio > 0}
    there = {key: available.get(key, 0) for key in named}
    whole = math.fsum(named.values())
    if top is not None:
        total = top
    elif share is not None:
        total = math.floor(share * sum(there.values()) + 0.5)
    else:
        total = math.floor(min(there[key] * whole / ratio for key, ratio in named.items()))
    wanted = allotted(total, named)
    lacking = {key: wanted[key] - there[key] for key in wanted if wanted[key] > there[key]}
    return {key: min(wanted[key], there[key]) for key in wanted}, lacking


def chosen(units: list[Unit], records: int, order: Order, seed: int) -> list[Unit]:
    """Of one scenario, `records` records, the same share of each rating (give or take one); a pair is two. Of each
    rating the highest, the middle of the ranking, or some by chance; equal difficulties stand in an order by chance."""
    by_rating: dict[str, list[Unit]] = {}
    for unit in units:
        by_rating.setdefault(unit.rating, []).append(unit)
    sizes = {rating: sum(len(unit.members) for unit in group) for rating, group in by_rating.items()}
    parts = allotted(records, sizes)
    taken: list[Unit] = []
    next_best: list[Unit] = []
    for rating in sorted(parts):
        ranked = _ranked(by_rating[rating], order, seed)
        first = _first(ranked, parts[rating])
        taken += first
        names = {unit.id for unit in first}
        next_best += [unit for unit in ranked if unit.id not in names][:1]
    # A pair doesn't fit into an odd number: what that leaves is given to another rating.
    return taken + _first(next_best, records - sum(len(unit.members) for unit in taken))


def _first(ranked: list[Unit], records: int) -> list[Unit]:
    """A pair that would be one record too many is left out, and a single record after it may still fit."""
    found = []
    for unit in ranked:
        if len(unit.members) <= records:
            found.append(unit)
            records -= len(unit.members)
    return found


def _ranked(units: list[Unit], order: Order, seed: int) -> list[Unit]:
    by_chance = sorted(units, key=lambda unit: lot(seed, unit.id))
    if order == "random":
        return by_chance
    highest = sorted(by_chance, key=lambda unit: -unit.difficulty)
    if order == "highest":
        return highest
    middle = (len(highest) - 1) / 2
    return [unit for _, unit in sorted(enumerate(highest), key=lambda ranked: abs(ranked[0] - middle))]


def _lacking(key: str, records: int) -> dict[str, int]:
    return {key: records} if records > 0 else {}
