"""Starts vLLM as it should run here, within the versions that are known."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themis_judge.engines.base import EngineUnavailable
from themis_judge.engines.vllm.settings import VLLMSettings, arguments, environment

if TYPE_CHECKING:
    import psutil  # comes with vLLM

LOWEST, BELOW = (0, 24), (0, 40)


def check_version(version: str) -> None:
    """Raises EngineUnavailable outside the range that this engine was written for."""
    try:
        found = tuple(map(int, version.split(".")[:2]))
    except ValueError:
        found = (0, 0)
    if not LOWEST <= found < BELOW:
        raise EngineUnavailable(f"vLLM {version} is installed; this engine knows >={_shown(LOWEST)},<{_shown(BELOW)}")


@contextmanager
def known_interface() -> Iterator[None]:
    """Around what uses vLLM's interface as it starts. Raises EngineUnavailable where this vLLM's is another one."""
    import vllm

    try:
        yield
    except (ImportError, AttributeError, TypeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise EngineUnavailable(f"vLLM {vllm.__version__} is not used as this engine knows it: {told}") from error


def _shown(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def prepare(settings: VLLMSettings) -> None:
    """Comes before anything else of vLLM is imported, since it sets itself up by the environment.

    Raises EngineUnavailable where there is no vLLM, or one that isn't known.
    """
    os.environ.update(environment(settings))
    try:
        import vllm
    except ImportError as error:
        raise EngineUnavailable(f"vLLM can't be imported: pip install 'themis-sidecar[vllm]' ({error})") from error
    # The package's own word, since its CPU build is a distribution of another name.
    check_version(str(vllm.__version__))


@dataclass(slots=True)
class Progress:
    """When vLLM last took a step, on the monotonic clock."""

    at_s: float = field(default_factory=time.monotonic)

    def note(self) -> None:
        self.at_s = time.monotonic()


@dataclass(frozen=True, slots=True)
class Started:
    """vLLM's AsyncLLM, and the processes it runs in."""

    llm: Any
    processes: Sequence[psutil.Process]
    progress: Progress


def start(settings: VLLMSettings, folder: Path) -> Started:
    """Takes seconds to minutes. Raises EngineUnavailable, saying why it did not start."""
    with known_interface():
        return _start(settings, folder)


def _start(settings: VLLMSettings, folder: Path) -> Started:
    import psutil
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.exceptions import VLLMValidationError
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    progress = Progress()
    before = set(multiprocessing.active_children())
    try:
        # Our way to hear of steps switches on the statistics that requests carry; vLLM's log of them stays off.
        asked = AsyncEngineArgs(**arguments(settings, folder, spare_adapters=int(current_platform.is_cpu())))
        llm = AsyncLLM.from_engine_args(asked, stat_loggers=[lambda *_args, **_named: _Pulse(progress)])
    except (ValueError, RuntimeError, OSError, VLLMValidationError) as error:
        raise EngineUnavailable(f"vLLM did not start: {type(error).__name__}: {error}") from error
    processes = [psutil.Process(child.pid) for child in multiprocessing.active_children() if child not in before]
    return Started(llm, processes, progress)


def kill(processes: Sequence[psutil.Process]) -> None:
    """Ends vLLM's processes and their own children without asking: for those that answer no more."""
    import psutil

    for process in processes:
        with suppress(psutil.NoSuchProcess):
            for one in (*process.children(recursive=True), process):
                one.kill()


class _Pulse:
    """What vLLM takes for a logger of statistics; it is told of every step of the engine."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def record(self, *_args: object, **_named: object) -> None:
        self._progress.note()

    def log_engine_initialized(self) -> None: ...

    def log(self) -> None: ...

    def record_sleep_state(self, *_args: object, **_named: object) -> None: ...
