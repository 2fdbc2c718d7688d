"""The engine behind the seam: one vLLM, and views of it for background work and for adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themis_judge.engines.base import (
    NO_DEADLINE,
    Deadline,
    Engine,
    EngineInfo,
    EngineUnavailable,
    Generation,
    Labels,
    LabelScores,
    Likelihood,
    Prompt,
    Sampling,
    Tokenizer,
)
from themis_judge.engines.folders import check_folder
from themis_judge.engines.vllm.lane import Lane
from themis_judge.engines.vllm.launch import known_interface, prepare
from themis_judge.engines.vllm.settings import VLLMSettings
from themis_judge.engines.weights import Loaded, locate

if TYPE_CHECKING:
    from themis_judge.engines.vllm.running import Running

_BACKGROUND = 1  # the foreground is 0, and lower goes first


class _Holder:
    """Where the engine and its views find what runs."""

    running: Running | None = None


class _View:
    """What every view of one vLLM does alike."""

    def __init__(self, holder: _Holder) -> None:
        self._holder = holder

    @property
    def info(self) -> EngineInfo:
        return self._running.info

    @property
    def tokenizer(self) -> Tokenizer:
        return self._running.tokenizer

    @property
    def failure(self) -> str | None:
        running = self._holder.running
        return running.core.failure if running else None

    @property
    def _running(self) -> Running:
        if self._holder.running is None:
            raise EngineUnavailable("the engine is not loaded")
        return self._holder.running

    @property
    def lane(self) -> Lane:
        return Lane(self.info.weights_digest)

    def background(self) -> Engine:
        return _Background(self._holder, self)

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        return await self._running.label_logprobs(prompt, labels, self.lane, deadline)

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation:
        return await self._running.generate(prompt, sampling, self.lane, deadline)

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], deadline: Deadline = NO_DEADLINE
    ) -> Likelihood:
        return await self._running.loglikelihood(prompt, continuation, self.lane, deadline)


class VLLMEngine(_View):
    """See `themis_judge.engines.base`: Engine, Prioritised, Adaptable and PrefixCached. Used from the event loop that
    it was loaded in, and once only: what failed or was unloaded is made anew."""

    def __init__(self, settings: VLLMSettings) -> None:
        super().__init__(_Holder())
        self.settings = settings

    async def load(self) -> None:
        """Starts vLLM; seconds to minutes. Raises EngineUnavailable, saying what is missing."""
        if self._holder.running is not None:
            return
        run, loaded = await asyncio.to_thread(self._prepare)
        self._holder.running = await run(self.settings, loaded)

    def _prepare(self) -> tuple[Callable[[VLLMSettings, Loaded], Awaitable[Running]], Loaded]:
        """What takes seconds before anything can be awaited: vLLM's import, and the weights' digest."""
        prepare(self.settings)
        with known_interface():
            from themis_judge.engines.vllm.running import run

        return run, locate(self.settings.model, self.settings.trust_remote_code)

    async def unload(self) -> None:
        running, self._holder.running = self._holder.running, None
        if running is not None:
            await running.core.close()

    async def reset_prefix_cache(self) -> None:
        await self._running.core.reset_prefix_cache()

    def adapted(self, name: str, folder: Path, digest: str) -> Engine:
        return _Adapted(self._holder, name, folder, digest)


class _Background(_View):
    def __init__(self, holder: _Holder, foreground: _View) -> None:
        super().__init__(holder)
        self._foreground = foreground

    @property
    def info(self) -> EngineInfo:
        return self._foreground.info

    @property
    def lane(self) -> Lane:
        return replace(self._foreground.lane, priority=_BACKGROUND)

    async def load(self) -> None: ...

    async def unload(self) -> None: ...


class _Adapted(_View):
    def __init__(self, holder: _Holder, name: str, folder: Path, digest: str) -> None:
        super().__init__(holder)
        self._name = name
        self._folder = folder
        self._digest = digest
        self._adapter: Any = None

    @property
    def info(self) -> EngineInfo:
        return replace(self._running.info, model=self._name, weights_digest=self._digest)

    @property
    def lane(self) -> Lane:
        if self._adapter is None:
            raise EngineUnavailable(f"the adapter {self._name} is not loaded")
        return Lane(self._digest, self._adapter)

    async def load(self) -> None:
        """Raises EngineUnavailable where the folder holds no adapter that vLLM can load, Unsupported where the engine
        takes none."""
        if self._adapter is not None:
            return
        check_folder(self._folder, what=f"adapter {self._name}")
        core = self._running.core
        adapter = core.new_adapter(self._name, self._folder)
        await core.add_adapter(adapter)
        self._adapter = adapter

    async def unload(self) -> None:
        adapter, self._adapter = self._adapter, None
        if adapter is not None and self._holder.running is not None:
            await self._holder.running.core.remove_adapter(adapter)
