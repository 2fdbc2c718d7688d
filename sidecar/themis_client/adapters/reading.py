"""Settings from plain values, for trainers that pass a reward function a mapping, or only a path.

    THEMIS_REWARD='{"target": "judge:50051", "on_failure": -1.0, "parts": [{"name": "help", "scenario": "chat"}]}'

Fields are those of RewardSettings; a part's `mode` is the name of a mode or {"name": ..., its settings}. An unknown
field is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from themis_client import parse
from themis_client.adapters.settings import (
    JudgePart,
    LengthPenalty,
    RewardSettings,
    Thinking,
    TruncationPenalty,
)
from themis_client.credentials import Tls
from themis_client.options import MODES, Mode, Orders, RatingMode, ReasoningPolicy, ScoreOptions, Truncation
from themis_client.retry import RetryPolicy
from themis_client.tournament import Tournament

VARIABLE = "THEMIS_REWARD"
TARGET_VARIABLE = "THEMIS_TARGET"
TOKEN_VARIABLE = "THEMIS_TOKEN_FILE"

T = TypeVar("T")
Readers: TypeAlias = Mapping[str, Callable[[Any, str], Any]]


def settings_from_environment(environment: Mapping[str, str]) -> RewardSettings:
    """THEMIS_REWARD is the settings as JSON, or @ and the path of a file that holds them; THEMIS_TARGET and
    THEMIS_TOKEN_FILE stand in for their fields. Raises ValueError, OSError for a file that can't be read."""
    text = environment.get(VARIABLE, "{}")
    if text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{VARIABLE}: no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{VARIABLE}: an object is needed")
    for variable, field in ((TARGET_VARIABLE, "target"), (TOKEN_VARIABLE, "token_file")):
        if variable in environment:
            value.setdefault(field, environment[variable])
    return read_settings(value)


def read_settings(value: Mapping[str, Any]) -> RewardSettings:
    """Raises ValueError with the field's path."""
    read: Readers = {
        "parts": lambda body, path: tuple(_part(one, f"{path}[{i}]") for i, one in enumerate(body)),
        "thinking": _thinking,
        "truncated": lambda body, path: body if isinstance(body, str) else _plain(TruncationPenalty, body, path),
        "length": lambda body, path: None if body is None else _plain(LengthPenalty, body, path),
        "clip": lambda body, path: None if body is None else _pair(body, path),
        "tls": lambda body, path: None if body is None else _plain(Tls, body, path),
        "retry": lambda body, path: _plain(RetryPolicy, body, path),
    }
    return _plain(RewardSettings, value, "", read)


def _thinking(body: Any, path: str) -> Thinking | None:
    return None if body is None else _plain(Thinking, body, path, {"tags": _pair})


def _part(body: Any, path: str) -> JudgePart:
    values = dict(_object(body, path))
    options = ScoreOptions(
        mode=_mode(values.pop("mode", None), f"{path}.mode"),
        truncation=_enum(Truncation, values.pop("truncation", "refuse"), f"{path}.truncation"),
        reasoning_policy=_enum(ReasoningPolicy, values.pop("reasoning_policy", "strip"), f"{path}.reasoning_policy"),
    )
    rubric = values.pop("rubric", None)
    if "options" in values:
        raise ValueError(f"{path}.options: its fields stand in the part itself: mode, truncation, reasoning_policy")
    read = None if rubric is None else parse.rubric(rubric, f"{path}.rubric")
    return _plain(JudgePart, values | {"options": options, "rubric": read}, path, {"tournament": _tournament})


def _tournament(body: Any, path: str) -> Tournament | None:
    if body is None:
        return None
    values = dict(_object(body, path))
    return _plain(Tournament, values | {"orders": _enum(Orders, values.get("orders", "both"), f"{path}.orders")}, path)


def _mode(body: Any, path: str) -> Mode:
    if body is None:
        return RatingMode()
    values = {"name": body} if isinstance(body, str) else dict(_object(body, path))
    name = values.pop("name", None)
    if name not in MODES:
        raise ValueError(f"{path}: one of {', '.join(MODES)} is needed, not {name!r}")
    kind: Callable[..., Mode] = MODES[name]
    return _plain(kind, values, path)


def _enum(kind: type[Any], name: Any, path: str) -> Any:
    members: Mapping[str, Any] = {member.name.lower(): member for member in kind}
    if name not in members:
        raise ValueError(f"{path}: one of {', '.join(members)} is needed, not {name!r}")
    return members[name]


def _plain(kind: Callable[..., T], body: Any, path: str, read: Readers = MappingProxyType({})) -> T:
    values = _object(body, path)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    made = {}
    for name, value in values.items():
        where = f"{path}.{name}".lstrip(".")
        if name not in known:
            raise ValueError(f"{where}: unknown; there are {', '.join(known)}")
        try:
            made[name] = read[name](value, where) if name in read else value
        except TypeError as error:
            raise ValueError(f"{where}: {error}") from error
    try:
        return kind(**made)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from error


def _pair(body: Any, path: str) -> tuple[Any, Any]:
    if not isinstance(body, (list, tuple)) or len(body) != 2:
        raise ValueError(f"{path}: a list of two is needed")
    return body[0], body[1]


def _object(body: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise ValueError(f"{path or VARIABLE}: an object is needed")
    return body
