"""A judge that likes vowels, behind the real server, and TRL as these tests want it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import pytest
from packaging.version import Version

from tests.integration.sidecar_running import Running
from tests.trainers.serving import vowel_judge

# PPO left TRL after 1.12.
collect_ignore = [] if Version(version("trl")) < Version("1.13") else ["test_trainers_ppo.py"]


@pytest.fixture(scope="session", autouse=True)
def _trl() -> Iterator[None]:
    import torch

    from tests.trainers.without_vllm import hide_vllm

    hide_vllm()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model is slower on several, the more so beside a server
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests that leave it alive."""
    with vowel_judge(tmp_path_factory.mktemp("judge")) as running:
        yield running
