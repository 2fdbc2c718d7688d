"""Selection: what is dropped for a reason of its own first, and of the rest as many as are asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from themis_pipeline.select.candidates import LIMITS, Candidate, Definition, MixedScorers
from themis_pipeline.select.capping import Caps, capped
from themis_pipeline.select.choosing import Order, chosen, quotas
from themis_pipeline.select.near_duplicates import Sieve, components
from themis_pipeline.select.outcome import Decision, Outcome, Reason
from themis_pipeline.select.outliers import Spread, pool_of
from themis_pipeline.select.triggers import Scan, Sighting, Trigger, triggers
from themis_pipeline.select.units import Unit, units_of


@dataclass(frozen=True, slots=True)
class Settings:
    """scorer: whose difficulties count; None where there is one alone. drop_above_one: what the prompt harms.
    outlier_z: how many deviations above the median is noise; None keeps them. pool_at_least: a smaller pool tells no
    outliers. top: how many records; share: how large a part; neither: all. ratios: by scenario, in any unit; scenarios
    without one are left out; none: as they come. caps: of sources. sieve, scan: None leaves that step out.
    keep_judge_lineage: for demonstrations."""

    definition: Definition = "log_perplexity_ratio"
    scorer: str | None = None
    order: Order = "highest"
    drop_above_one: bool = True
    outlier_z: float | None = 3.0
    pool_at_least: int = 10
    top: int | None = None
    share: float | None = None
    ratios: Mapping[str, float] = field(default_factory=dict)
    caps: Caps = field(default_factory=Caps)
    sieve: Sieve | None = field(default_factory=Sieve)
    scan: Scan | None = field(default_factory=Scan)
    seed: int = 0
    keep_judge_lineage: bool = False

    def __post_init__(self) -> None:
        if self.top is not None and self.share is not None:
            raise ValueError("top and share: one of the two")
        if self.top is not None and self.top < 0:
            raise ValueError(f"top: is {self.top}, and may not be negative")
        if self.share is not None and not 0 <= self.share <= 1:
            raise ValueError(f"share: is {self.share}, and lies in [0, 1]")
        if any(not math.isfinite(ratio) or ratio < 0 for ratio in self.ratios.values()):
            raise ValueError("ratios: may not be negative, nor anything but numbers")
        if self.ratios and not any(self.ratios.values()):
            raise ValueError("ratios: all are 0")
        if self.outlier_z is not None and not self.outlier_z > 0:
            raise ValueError(f"outlier_z: is {self.outlier_z}, and lies above 0")


def select(
    candidates: Iterable[Candidate], settings: Settings, pool: Mapping[tuple[str, str], Spread] | None = None
) -> Outcome:
    """The same for the same candidates, whatever their order. pool: a frozen one, by which outliers are told; else it
    is made of what is left when they are. Raises MixedScorers."""
    return _Selecting(sorted(candidates, key=partial(_place, settings.scorer)), settings, pool).run()


class _Selecting:
    def __init__(
        self, candidates: list[Candidate], settings: Settings, pool: Mapping[tuple[str, str], Spread] | None
    ) -> None:
        self._candidates = candidates
        self._settings = settings
        self._pool = pool
        self._reasons: dict[int, tuple[Reason, str]] = {}  # by place among the candidates
        self._triggers: tuple[Trigger, ...] = ()

    def run(self) -> Outcome:
        left = units_of(self._without_repeated())
        if not self._settings.keep_judge_lineage:
            left = self._drop(left, Reason.OWN_LINEAGE, _any(lambda one: "" if one.own_lineage else None))
        left = self._drop(left, Reason.NOT_SCORED, _any(lambda one: "" if one.difficulty is None else None))
        left = self._drop(left, Reason.OTHER_SCORER, _any(self._of_another_scorer()))
        left = self._drop(left, Reason.INCOMPLETE_PAIR, lambda unit: None if unit.whole else "")
        left = self._drop(left, Reason.NEAR_DUPLICATE, _any(self._near_duplicates(left)))
        left = self._drop(left, Reason.TRIGGER, _any(self._triggered(left)))
        pool = pool_of(one for unit in left for one in unit.members) if self._pool is None else self._pool
        left = self._drop(left, Reason.OUTLIER, _any(lambda one: self._outlying(one, pool)))
        left = self._drop(left, Reason.ABOVE_ONE, _any(self._above_one))
        shortfall = self._choose(left)
        limit = LIMITS[self._settings.definition]
        return Outcome(self._decisions(), pool, self._triggers, shortfall, limit)

    # ------------------------------------------------------------------------------------------- steps

    def _without_repeated(self) -> list[Candidate]:
        """Of records with one id the first; candidates are sorted, and equal ones are equal."""
        seen: set[str] = set()
        left = []
        for place, candidate in enumerate(self._candidates):
            if candidate.id in seen:
                self._reasons[place] = (Reason.REPEATED, "")
            else:
                left.append(candidate)
            seen.add(candidate.id)
        return left

    def _of_another_scorer(self) -> Callable[[Candidate], str | None]:
        scorers = {str(one.scorer) for one in self._candidates if one.difficulty is not None}
        wanted = self._settings.scorer
        if wanted is None and len(scorers) > 1:
            raise MixedScorers(f"difficulties of {len(scorers)} scorers: {', '.join(sorted(scorers))}; name one")
        return lambda one: None if wanted is None or one.scorer == wanted else f"by {one.scorer}"

    def _near_duplicates(self, units: list[Unit]) -> Callable[[Candidate], str | None]:
        """Of instructions that are nearly the same one stays, with all its responses."""
        if self._settings.sieve is None:
            return lambda one: None
        texts = {one.instruction: one.asked for unit in units for one in unit.members}
        first = components(texts, self._settings.sieve)
        return lambda one: None if first[one.instruction] == one.instruction else f"of {first[one.instruction]}"

    def _triggered(self, units: list[Unit]) -> Callable[[Candidate], str | None]:
        if self._settings.scan is None:
            return lambda one: None
        scan = self._settings.scan
        # Apart, since what a pair's responses have come to is no rating, and frequent in another way.
        kinds = (
            [found for unit in units if unit.is_pair is pairs for found in _sightings(unit)] for pairs in (False, True)
        )
        self._triggers = tuple(trigger for sightings in kinds for trigger in triggers(sightings, scan))
        by_record = {record: trigger for trigger in reversed(self._triggers) for record in trigger.records}
        return lambda one: f"{by_record[one.id].text!r}" if one.id in by_record else None

    def _outlying(self, one: Candidate, pool: Mapping[tuple[str, str], Spread]) -> str | None:
        known, bound = pool.get((one.scenario, one.template)), self._settings.outlier_z
        if known is None or bound is None or known.records < self._settings.pool_at_least or one.difficulty is None:
            return None
        z = known.z(one.difficulty)
        return f"z {z:.2f}" if z > bound else None

    def _above_one(self, one: Candidate) -> str | None:
        above = one.difficulty is not None and one.difficulty > LIMITS[self._settings.definition]
        return "" if self._settings.drop_above_one and above else None

    def _choose(self, units: list[Unit]) -> Mapping[str, int]:
        ratios = self._settings.ratios
        left = self._drop(
            units, Reason.NOT_ASKED, lambda unit: "" if ratios and not ratios.get(unit.scenario) else None
        )
        available: Counter[str] = Counter()
        for unit in sorted(left, key=lambda unit: unit.scenario):
            available[unit.scenario] += len(unit.members)
        numbers, shortfall = quotas(available, self._settings.top, self._settings.share, ratios)
        kept, above = capped(left, partial(self._chosen, numbers), self._settings.caps, self._settings.seed)
        names = {(unit.is_pair, unit.id) for unit in above}
        share = self._settings.caps.of
        left = self._drop(
            left,
            Reason.SOURCE_CAP,
            lambda unit: f"{share(unit.source):g} of what is kept" if (unit.is_pair, unit.id) in names else None,
        )
        stay = {(unit.is_pair, unit.id) for unit in kept}
        self._drop(left, Reason.NOT_CHOSEN, lambda unit: None if (unit.is_pair, unit.id) in stay else "")
        return shortfall

    def _chosen(self, numbers: Mapping[str, int], units: Sequence[Unit]) -> list[Unit]:
        by_scenario: dict[str, list[Unit]] = {}
        for unit in units:
            by_scenario.setdefault(unit.scenario, []).append(unit)
        return [
            unit
            for scenario, number in numbers.items()
            for unit in chosen(by_scenario.get(scenario, []), number, self._settings.order, self._settings.seed)
        ]

    # ------------------------------------------------------------------------------------------- parts

    def _drop(self, units: list[Unit], reason: Reason, why: Callable[[Unit], str | None]) -> list[Unit]:
        """Those for which `why` has nothing to say."""
        left, dropped = [], {}
        for unit in units:
            detail = why(unit)
            if detail is None:
                left.append(unit)
            else:
                dropped.update(dict.fromkeys((member.id for member in unit.members), detail))
        for place, candidate in enumerate(self._candidates):
            if candidate.id in dropped:
                self._reasons.setdefault(place, (reason, dropped[candidate.id]))
        return left

    def _decisions(self) -> tuple[Decision, ...]:
        return tuple(
            Decision(
                one.id, one.scenario, one.template, one.rating, one.difficulty,
                *self._reasons.get(place, (Reason.KEPT, "")), one.source, one.place,
            )
            for place, one in enumerate(self._candidates)
        )  # fmt: skip


def _place(scorer: str | None, one: Candidate) -> tuple[object, ...]:
    """By more than the id, so that of repeated ones the same one stays; one that the scorer asked for has scored goes
    before what another one did, and that before what none did."""
    other = (one.difficulty is None, scorer is not None and one.scorer != scorer)
    return (one.id, *other, one.template, one.rating, str(one.difficulty), str(one.scorer), one.swapped, one.place)


def _any(why: Callable[[Candidate], str | None]) -> Callable[[Unit], str | None]:
    """Both orders of a pair go where one has a reason to."""
    return lambda unit: next((found for found in map(why, unit.members) if found is not None), None)


def _sightings(unit: Unit) -> Iterable[Sighting]:
    """The words of a response stand beside what became of it, those of an instruction beside all of them."""
    for one in unit.members:
        for text, rating in one.answers:
            yield Sighting(one.id, one.instruction, one.scenario, rating, f"{one.asked}\n{text}")
