"""Scenarios and their criteria: data, one YAML file a scenario. A user adds one by adding a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from themis_judge.errors import BadScenario
from themis_judge.items import Criterion

BUILT_IN = Path(__file__).parent / "rubrics"


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two answers to one instruction, of which one meets a criterion and the other doesn't."""

    instruction: str
    meets: str
    misses: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """criteria in descending order of importance; reference: whether a reference is shown to the judge by
    default; contrasts: by criterion id."""

    id: str
    name: str
    definition: str
    reference: bool
    criteria: tuple[Criterion, ...]
    contrasts: Mapping[str, Contrast]


def load_scenarios(folders: Iterable[Path | str] = (), built_in: bool = True) -> Mapping[str, Scenario]:
    """The built-in scenarios (unless told otherwise) and those of `folders`, by id, sorted; a later file replaces an
    earlier id.

    Raises BadScenario, naming file and field.
    """
    found: dict[str, tuple[Scenario, Path]] = {}
    for folder in (*([BUILT_IN] if built_in else []), *map(Path, folders)):
        files = sorted(folder.glob("*.yaml"))
        if not files:
            raise BadScenario(f"{folder}: no *.yaml file there")
        for file in files:
            scenario = read_scenario(file)
            found[scenario.id] = (scenario, file)
    _check_ids(found.values())
    return MappingProxyType({id: scenario for id, (scenario, _) in sorted(found.items())})


def read_scenario(file: Path) -> Scenario:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadScenario(f"{file}: not readable as YAML: {error}") from error
    fields = _Fields(data, str(file), ("id", "name", "definition", "reference", "criteria"))
    if fields.text("reference") not in ("used", "dropped"):
        raise BadScenario(f"{file}: reference: say 'used' or 'dropped'")
    entries = fields.list("criteria")
    criteria, contrasts = [], {}
    for index, entry in enumerate(entries):
        part = _Fields(entry, f"{file}: criteria[{index}]", ("id", "name", "text", "contrast"))
        criterion = Criterion(id=part.text("id"), name=part.text("name"), text=part.text("text"))
        criteria.append(criterion)
        if "contrast" in part.data:
            known = ("instruction", "reference", "meets", "misses")
            contrasts[criterion.id] = _contrast(_Fields(part.data["contrast"], f"{part.where}.contrast", known))
    return Scenario(
        id=fields.text("id"),
        name=fields.text("name"),
        definition=fields.text("definition"),
        reference=fields.text("reference") == "used",
        criteria=tuple(criteria),
        contrasts=MappingProxyType(contrasts),
    )


def _contrast(fields: _Fields) -> Contrast:
    reference = fields.text("reference") if "reference" in fields.data else None
    return Contrast(fields.text("instruction"), fields.text("meets"), fields.text("misses"), reference)


def _check_ids(scenarios: Iterable[tuple[Scenario, Path]]) -> None:
    owner: dict[str, Path] = {}
    for scenario, file in scenarios:
        for index, criterion in enumerate(scenario.criteria):
            if criterion.id in owner:
                raise BadScenario(
                    f"{file}: criteria[{index}].id: {criterion.id} stands in {owner[criterion.id]} already"
                )
            owner[criterion.id] = file


class _Fields:
    """Reads required fields of a YAML mapping, with errors that say where; a field that isn't known is a typo."""

    def __init__(self, data: Any, where: str, known: tuple[str, ...]) -> None:
        if not isinstance(data, dict):
            raise BadScenario(f"{where}: a mapping is expected")
        for name in data:
            if name not in known:
                raise BadScenario(f"{where}: {name}: not known here; the fields are {', '.join(known)}")
        self.data = data
        self.where = where

    def text(self, name: str) -> str:
        value = self.data.get(name)
        if not isinstance(value, str) or not value.strip():
            raise BadScenario(f"{self.where}: {name}: a text is expected")
        return value.strip()

    def list(self, name: str) -> list[Any]:
        value = self.data.get(name)
        if not isinstance(value, list) or not value:
            raise BadScenario(f"{self.where}: {name}: a list of at least one entry is expected")
        return value
