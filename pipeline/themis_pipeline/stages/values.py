"""The data files that instructions are made from: requirements, seeds, value lists. A user changes them as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from themis_pipeline.stages.errors import BadData

BUILT_IN = Path(__file__).parent.parent / "data"

QUIZZED = frozenset({"math", "reading_comprehension", "programming"})
"""The scenarios that a quiz's answer has a form for."""


@dataclass(frozen=True, slots=True)
class Questioning:
    """How instructions of a scenario are asked for next to a reference text."""

    scenario: str
    requirements: tuple[str, ...]
    seeds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quizzing:
    """What a test writer is told, by lists of values; `subjects` holds each subject's topics."""

    scenario: str
    difficulties: tuple[str, ...]
    audiences: tuple[str, ...]
    subjects: Mapping[str, tuple[str, ...]]
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opposites:
    """words: each one's opposite, in lower case; sayings: phrases whose words say something else."""

    words: Mapping[str, str]
    sayings: tuple[str, ...]


def load_questioning(folder: Path = BUILT_IN / "questioning") -> Mapping[str, Questioning]:
    """By scenario. Raises BadData."""
    return _by_scenario([_questioning(file) for file in _files(folder)], folder)


def load_quizzing(folder: Path = BUILT_IN / "quizzing") -> Mapping[str, Quizzing]:
    """By scenario. Raises BadData."""
    return _by_scenario([_quizzing(file) for file in _files(folder)], folder)


def load_suffixes(file: Path = BUILT_IN / "injections.yaml") -> tuple[str, ...]:
    """Sentences that speak to a judge. Raises BadData."""
    return _texts(_mapping(file, {"suffixes"}), "suffixes", file)


def load_fillers(file: Path = BUILT_IN / "fillers.yaml") -> tuple[str, ...]:
    """Sentences that say nothing. Raises BadData."""
    return _texts(_mapping(file, {"fillers"}), "fillers", file)


def load_opposites(file: Path = BUILT_IN / "opposites.yaml") -> Opposites:
    """Each word's opposite, both ways. Raises BadData."""
    data = _mapping(file, {"pairs", "sayings"})
    if not isinstance(data["pairs"], list) or not data["pairs"]:
        raise BadData(f"{file}: pairs: a list of pairs of words is expected")
    found: dict[str, str] = {}
    for index, pair in enumerate(data["pairs"]):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(word, str) for word in pair):
            raise BadData(f"{file}: pairs[{index}]: two words are expected")
        for word, opposite in (pair, pair[::-1]):
            if word in found:
                raise BadData(f"{file}: pairs[{index}]: {word} stands in another pair already")
            found[word] = opposite
    return Opposites(MappingProxyType(found), _texts(data, "sayings", file))


def _questioning(file: Path) -> Questioning:
    data = _mapping(file, {"scenario", "requirements", "seeds"})
    return Questioning(_scenario(data, file), _texts(data, "requirements", file), _texts(data, "seeds", file))


def _quizzing(file: Path) -> Quizzing:
    data = _mapping(file, {"scenario", "difficulties", "audiences", "subjects", "tasks"})
    if data["scenario"] not in QUIZZED:
        raise BadData(f"{file}: scenario: quizzes are written for {', '.join(sorted(QUIZZED))} alone")
    subjects = data["subjects"]
    if not isinstance(subjects, dict) or not subjects:
        raise BadData(f"{file}: subjects: a mapping of subjects to their topics is expected")
    if not all(isinstance(name, str) for name in subjects):
        raise BadData(f"{file}: subjects: a subject's name is no text; put it into quotation marks")
    return Quizzing(
        scenario=_scenario(data, file),
        difficulties=_texts(data, "difficulties", file),
        audiences=_texts(data, "audiences", file),
        subjects=MappingProxyType({name: _texts(subjects, name, file) for name in subjects}),
        tasks=_texts(data, "tasks", file),
    )


def _by_scenario(loaded: list[Any], folder: Path) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for values in loaded:
        if values.scenario in found:
            raise BadData(f"{folder}: two files are about {values.scenario}")
        found[values.scenario] = values
    return MappingProxyType(found)


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise BadData(f"{folder}: no *.yaml file there")
    return files


def _mapping(file: Path, fields: set[str]) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadData(f"{file}: not readable as YAML: {error}") from error
    if not isinstance(data, dict):
        raise BadData(f"{file}: a mapping is expected")
    wrong = sorted(map(str, fields ^ set(data)))
    if wrong:
        raise BadData(f"{file}: missing or not known: {', '.join(wrong)}")
    return data


def _scenario(data: dict[str, Any], file: Path) -> str:
    if not isinstance(data["scenario"], str) or not data["scenario"]:
        raise BadData(f"{file}: scenario: a scenario's id is expected")
    return data["scenario"]


def _texts(data: dict[str, Any], field: str, file: Path) -> tuple[str, ...]:
    values = data[field]
    if not isinstance(values, list) or not values:
        raise BadData(f"{file}: {field}: a list of at least one text is expected")
    for index, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise BadData(f"{file}: {field}[{index}]: a text is expected")
    if len(set(values)) < len(values):
        raise BadData(f"{file}: {field}: a text stands there twice")
    return tuple(value.strip() for value in values)
