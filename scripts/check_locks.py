"""Checks that requirements/ satisfies what pyproject.toml and the .in files ask for, with hashes and no addresses.

What a lock's packages ask for in turn is the resolver's business: this only catches a dependency that was
added or raised here while the locks stayed as they were.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+))?")

# Each lock, the extras of pyproject.toml in it (None: the project is not in it), and its .in file.
LOCKS: list[tuple[str, list[str] | None, str | None]] = [
    ("requirements/test.txt", ["dev"], None),
    ("requirements/demo.txt", ["demo"], "requirements/demo.in"),
    ("requirements/trl.txt", ["cli"], "requirements/trl.in"),
    ("requirements/cuda.txt", ["vllm", "kafka", "s3", "tracing"], None),
    ("requirements/uv.txt", None, "requirements/uv.in"),
    ("requirements/proto.txt", None, "requirements/proto.in"),
    *(
        (f"requirements/compat/protobuf{major}.txt", [], f"requirements/compat/protobuf{major}.in")
        for major in (5, 6, 7)
    ),
]


def declared(extras: Iterable[str]) -> Iterator[Requirement]:
    """The project's own requirements, with those of the extras; extras that name extras are followed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    todo = [*project["dependencies"]]
    for extra in extras:
        todo += project["optional-dependencies"][extra]
    while todo:
        requirement = Requirement(todo.pop())
        if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
            for extra in requirement.extras:
                todo += project["optional-dependencies"][extra]
        else:
            yield requirement


def from_file(path: Path) -> Iterator[Requirement]:
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            yield Requirement(line)


def problems(lock: Path, requirements: Iterable[Requirement]) -> Iterator[str]:
    text = lock.read_text()
    if "://" in text or re.search(r"^\s*(-i|-f|--(extra-)?index|--find-links)|^[^#]* @ ", text, re.MULTILINE):
        yield "names an address"
    pins: dict[str, Version] = {}
    for entry in re.sub(r"\\\n\s+", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)).splitlines():
        pin = PIN.match(entry)
        if pin is None:
            yield f"not a pin: {entry[:60]}"
            continue
        pins[canonicalize_name(pin["name"])] = Version(pin["version"])
        if "--hash=sha256:" not in entry:
            yield f"{pin['name']} has no hash"
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        version = pins.get(canonicalize_name(requirement.name))
        if version is None:
            yield f"lacks {requirement}"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield f"holds {requirement.name} {version}, but {requirement} is asked for"


def main() -> int:
    found = []
    for name, extras, source in LOCKS:
        requirements = [] if extras is None else list(declared(extras))
        if source is not None:
            requirements += from_file(ROOT / source)
        found += [f"{name}: {problem}" for problem in problems(ROOT / name, requirements)]
    sys.stderr.writelines(f"{line}\n" for line in [*found, *(["run make lock"] if found else [])])
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
