"""The file of callers: who has which token or certificate, which role, and which limits of its own.

    callers:
      - name: trainer-a
        role: score
        sha256: [9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08]   # several while tokens rotate
        limits: {max_items: 200, tokens_per_s: 50000}
      - name: platform
        role: admin
        certificates: [deploy.platform.example]   # a common name or a subject alternative name, under mTLS

It holds no secret: of a token it has the digest only.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Literal

import yaml
from pydantic import Field, PositiveFloat, PositiveInt, StringConstraints, ValidationError, model_validator

from themis_sidecar.config import Section
from themis_sidecar.security.callers import ANONYMOUS, Caller, Role
from themis_sidecar.security.errors import SecurityError
from themis_sidecar.security.files import Contents

MAX_CALLERS = 1000
MAX_TOKENS = 4  # of a caller: each is compared at every call

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@/-]{0,63}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class OwnLimits(Section):
    """What a caller may take; what is left out is as the settings say for everybody."""

    max_calls: PositiveInt | None = None
    max_items: PositiveInt | None = None
    tokens_per_s: PositiveFloat | None = None
    queue_share: float | None = Field(default=None, gt=0, le=1)


class CallerEntry(Section):
    name: Name
    role: Literal["score", "admin"]
    sha256: tuple[Digest, ...] = Field(default=(), max_length=MAX_TOKENS)
    certificates: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    limits: OwnLimits = OwnLimits()

    @model_validator(mode="after")
    def _has_means(self) -> CallerEntry:
        if not self.sha256 and not self.certificates:
            raise ValueError("has neither sha256 nor certificates")
        if self.name == ANONYMOUS:
            raise ValueError("the name anonymous is taken: it stands for callers who are not authenticated")
        return self


class _File(Section):
    callers: tuple[CallerEntry, ...] = Field(min_length=1, max_length=MAX_CALLERS)

    @model_validator(mode="after")
    def _unique(self) -> _File:
        """Whoever edits the file must not give one caller's token to another unseen. Digests are not quoted."""
        for what in ("name", "sha256", "certificates"):
            values = [value for caller in self.callers for value in _listed(getattr(caller, what))]
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                owners = [caller.name for caller in self.callers if twice[0] in _listed(getattr(caller, what))]
                raise ValueError(f"{what} stands twice: see {', '.join(owners)}")
        return self


@dataclass(frozen=True, slots=True)
class Callers:
    """All callers of the file."""

    tokens: tuple[tuple[bytes, Caller], ...] = field(repr=False)
    certificates: dict[str, Caller]
    limits: dict[str, OwnLimits]

    def by_token(self, token: str) -> Caller | None:
        """Compares with every digest, each in constant time, so that time tells nothing about any."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found: Caller | None = None
        for known, caller in self.tokens:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def parse_callers(path: str, contents: Contents) -> Callers:
    """Raises SecurityError, which says what is wrong and where, and quotes nothing of what stands there."""
    try:
        data = yaml.safe_load(contents[0])
        entries = _File.model_validate(data).callers
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SecurityError(f"{path}: is not YAML{_place(error)}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise SecurityError(f"{path}: {problems}") from error
    callers = {entry.name: Caller(entry.name, Role.named(entry.role)) for entry in entries}
    return Callers(
        tokens=tuple((bytes.fromhex(one), callers[entry.name]) for entry in entries for one in entry.sha256),
        certificates={one: callers[entry.name] for entry in entries for one in entry.certificates},
        limits={entry.name: entry.limits for entry in entries},
    )


def _listed(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _place(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return "" if mark is None else f", line {mark.line + 1}"
