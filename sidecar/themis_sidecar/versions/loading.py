"""From a version in the store to a judge that has proved itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from themis_judge.engines.base import Deadline, Engine
from themis_judge.items import Item, Message, Options, Response, Result, Status
from themis_judge.judge import Judge
from themis_judge.scenarios import Scenario
from themis_judge.store import CacheFull, HealthPrompt, JudgeStore, Manifest, StoreUnavailable, version_scenarios
from themis_judge.version import references_of, template_digest
from themis_sidecar.versions.residents import Resident, Residents
from themis_sidecar.versions.store_calls import StoreCalls

Adapt = Callable[[str, Path, str], Engine]

_WORKS = (Status.OK, Status.OFF_FORMAT)  # that it keeps to the format is for health prompts to ask
_TRIAL = Item((Message.of("user", "What is two and two?"),), Response.of("Four."), scenario="math")


class LoadFailed(Exception):
    """The version can't be used on this replica; the text says why, and quotes no prompt."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A version that may be loaded, and nothing of it is here yet. base: where it is an adapter whose weights have to
    be loaded first."""

    manifest: Manifest
    base: Plan | None = None

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def brings_weights(self) -> bool:
        """Whether loading it takes room for a set of weights."""
        return self.manifest.kind != "lora" or self.base is not None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version that lies on this machine and fits this software, and the base that it needs first."""

    manifest: Manifest
    folder: Path
    scenarios: Mapping[str, Scenario]
    base: Prepared | None = None

    @property
    def id(self) -> str:
        return self.manifest.id


class Loader:
    """make_engine: builds the engine for a model's folder; warm_up_s: the longest that health prompts may take."""

    def __init__(self, store: StoreCalls, make_engine: Callable[[str], Engine], warm_up_s: float) -> None:
        self._store = store
        self._make_engine = make_engine
        self._warm_up_s = warm_up_s

    async def plan(self, id: str, residents: Residents, wanted: Collection[str]) -> Plan:
        """What it takes to load a version. An adapter's base has to be resident, or wanted.

        Raises LoadFailed where the version is at fault, StoreUnavailable where it could not be looked at.
        """
        with _at_fault():
            manifest = await self._store.run(JudgeStore.manifest, id)
            base: Plan | None = None
            if manifest.kind == "lora" and residents.get(manifest.base_model) is None:
                if manifest.base_model not in wanted or manifest.base_model == id:
                    raise LoadFailed(f"it adapts {manifest.base_model}, which is not resident here")
                base = await self.plan(manifest.base_model, residents, ())
            return Plan(manifest, base)

    async def prepare(self, plan: Plan) -> Prepared:
        """Fetches and checks; nothing is loaded yet. Raises LoadFailed, StoreUnavailable, CacheFull."""
        with _at_fault():
            base = None if plan.base is None else await self.prepare(plan.base)
            folder = await self._store.fetch(plan.manifest)
            scenarios = version_scenarios(folder)
            _check_template(plan.manifest, scenarios)
            return Prepared(plan.manifest, folder, scenarios, base)

    async def load(self, prepared: Prepared, residents: Residents) -> tuple[Resident, ...]:
        """Loads and warms up; seconds to minutes. The version comes last, after the base that it needed.
        Raises LoadFailed."""
        with _at_fault():
            if prepared.base is None:
                known = residents.get(prepared.manifest.base_model) if prepared.manifest.kind == "lora" else None
                return (await self._load(prepared, known),)
            base = await self._load(prepared.base, None)
            try:
                return base, await self._load(prepared, base)
            except BaseException:
                await base.judge.unload()
                raise

    async def _load(self, prepared: Prepared, base: Resident | None) -> Resident:
        manifest = prepared.manifest
        engine = await asyncio.to_thread(self._engine, prepared, base)  # importing one takes seconds
        judge = Judge(engine, prepared.scenarios, manifest.settings, manifest.id)
        try:
            await judge.load()
            await self._warm_up(judge, manifest.health_prompts)
        except BaseException:
            await judge.unload()
            raise
        version = replace(judge.version, base_model=manifest.base_model)  # an engine knows a folder
        return Resident(judge, version, base=None if base is None else base.id)

    def _engine(self, prepared: Prepared, base: Resident | None) -> Engine:
        folder = prepared.folder / "judge"
        if prepared.manifest.kind != "lora":
            return self._make_engine(str(folder))
        engine = None if base is None else base.judge.engine
        adapted: Adapt | None = getattr(engine, "adapted", None)  # offered by engines that are Adaptable
        if adapted is None:
            name = "no engine" if engine is None else f"engine {engine.info.name!r}"
            raise LoadFailed(f"it is a LoRA adapter of {prepared.manifest.base_model}, and {name} there can hold none")
        return adapted(prepared.id, folder, prepared.manifest.weights_digest)

    async def _warm_up(self, judge: Judge, prompts: tuple[HealthPrompt, ...]) -> None:
        """Every health prompt's rating must lie where the manifest says. Without any, one has to be computed, in the
        format or not."""
        deadline = Deadline.after(self._warm_up_s)
        if not prompts:
            trial = replace(_TRIAL, scenario=_TRIAL.scenario if _TRIAL.scenario in judge.scenarios else "")
            result = await judge.score_one(trial, Options(), deadline)
            if result.status not in _WORKS:
                raise LoadFailed(f"it can't rate: {result.status.name}: {result.error}")
        for index, prompt in enumerate(prompts):
            _check_health(index, prompt, await judge.score_one(prompt.item, Options(), deadline))


@contextmanager
def _at_fault() -> Iterator[None]:
    """Turns whatever a candidate's files make a library raise into LoadFailed: serving must not end for it."""
    try:
        yield
    except (CacheFull, LoadFailed, StoreUnavailable):  # the first and the last are not the version's fault
        raise
    except Exception as error:
        raise LoadFailed(f"{type(error).__name__}: {error}") from error


def _check_template(manifest: Manifest, scenarios: Mapping[str, Scenario]) -> None:
    found = template_digest(manifest.settings, scenarios, references_of(manifest.settings, scenarios))
    if found != manifest.template_digest:
        raise LoadFailed(
            f"its template digest is {manifest.template_digest[:12]}, and this software makes {found[:12]} of it: "
            "it was published by another release, and would judge by other prompts here"
        )


def _check_health(index: int, prompt: HealthPrompt, result: Result) -> None:
    if result.status is not Status.OK or result.verdict is None:
        raise LoadFailed(f"health prompt {index + 1} was not rated: {result.status.name}: {result.error}")
    expected = result.verdict.rating.expected
    low, high = prompt.min_rating, prompt.max_rating
    if (low is not None and expected < low) or (high is not None and expected > high):
        raise LoadFailed(
            f"health prompt {index + 1} was rated {expected:.3f}, outside of "
            f"{'...' if low is None else low} to {'...' if high is None else high}"
        )
