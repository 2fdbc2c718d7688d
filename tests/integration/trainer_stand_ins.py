"""What the adapters for verl and NeMo-RL touch of these trainers and of Ray, written from verl 0.9.0's and NeMo-RL
0.7.0's source: neither is installed here. Nothing in here does more than the lines that it stands for."""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np


class RewardManagerBase(ABC):
    """verl/experimental/reward_loop/reward_manager/base.py"""

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.compute_score = compute_score

    @abstractmethod
    async def run_single(self, data: Any) -> dict[str, Any]: ...


@dataclass
class DataProtoItem:
    """verl/protocol.py"""

    batch: dict[str, Any]
    non_tensor_batch: dict[str, Any]


@dataclass
class DataProto:
    """verl/protocol.py: a batch of tensors and one of arrays of objects, cut and indexed together."""

    batch: dict[str, Any]
    non_tensor_batch: dict[str, Any]

    def __len__(self) -> int:
        return len(self.batch["responses"])

    def __getitem__(self, place: int | slice) -> Any:
        kind = DataProto if isinstance(place, slice) else DataProtoItem
        return kind(
            {name: value[place] for name, value in self.batch.items()},
            {name: value[place] for name, value in self.non_tensor_batch.items()},
        )


def objects(value: Any, count: int) -> Any:
    """As AgentLoopWorker._compute_score makes arrays of a sample's fields."""
    return np.array([value] * count)


class EnvironmentReturn(NamedTuple):
    """nemo_rl/environments/interfaces.py"""

    observations: list[dict[str, str]]
    metadata: list[Any]
    next_stop_strings: list[Any]
    rewards: Any
    terminateds: Any
    answers: list[Any] | None


class EnvironmentInterface(ABC):
    """nemo_rl/environments/interfaces.py"""

    @abstractmethod
    def step(self, message_log_batch: Any, metadata: Any) -> EnvironmentReturn: ...

    @abstractmethod
    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, Any]]: ...


class PyExecutables:
    """nemo_rl/distributed/virtual_cluster.py"""

    SYSTEM = sys.executable


@dataclass
class ActorClass:
    """What ray.remote makes of a class."""

    cls: type
    options: dict[str, Any]


def remote(**options: Any) -> Callable[[type], ActorClass]:
    return lambda cls: ActorClass(cls, options)


@contextmanager
def importing(adapter: str, modules: dict[str, dict[str, Any]]) -> Iterator[Any]:
    """The adapter's module, made anew while `modules` can be imported; afterwards none of them can."""
    made: dict[str, ModuleType] = {}
    for name, contents in modules.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            made.setdefault(".".join(parts[:end]), ModuleType(".".join(parts[:end])))
        vars(made[name]).update(contents)
    sys.modules.update(made)
    try:
        yield importlib.import_module(f"themis_client.adapters.{adapter}")
    finally:
        for name in (*made, f"themis_client.adapters.{adapter}"):
            sys.modules.pop(name, None)


VERL = {"verl.experimental.reward_loop.reward_manager.base": {"RewardManagerBase": RewardManagerBase}}


def nemo_rl_modules(registry: dict[str, str], environments: dict[str, str]) -> dict[str, dict[str, Any]]:
    """registry: of the actors' Python environments; environments: what register_env() fills."""
    return {
        "ray": {"remote": remote},
        "nemo_rl.distributed.ray_actor_environment_registry": {"ACTOR_ENVIRONMENT_REGISTRY": registry},
        "nemo_rl.distributed.virtual_cluster": {"PY_EXECUTABLES": PyExecutables},
        "nemo_rl.environments.interfaces": {
            "EnvironmentInterface": EnvironmentInterface,
            "EnvironmentReturn": EnvironmentReturn,
        },
        "nemo_rl.environments.utils": {"register_env": environments.__setitem__},
    }
