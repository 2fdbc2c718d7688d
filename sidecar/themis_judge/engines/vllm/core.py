"""One running vLLM: questions on their way through it, their deadlines, and whether it is still alive."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from vllm.exceptions import VLLMValidationError
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from themis_judge.engines.base import (
    Deadline,
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    Unsupported,
)
from themis_judge.engines.vllm.lane import Lane
from themis_judge.engines.vllm.launch import Started, kill
from themis_judge.engines.vllm.neutral import write_neutral

Request: TypeAlias = tuple[list[int], Any]  # a prompt's ids and vLLM's sampling parameters

_LOOK_S = 1.0  # between two looks at whether it lives
_RETRY_S = (0.1, 30.0)


class Core:
    """Bound to the event loop it is made in."""

    def __init__(self, started: Started, max_in_flight: int, stuck_after_s: float) -> None:
        self.llm = started.llm
        self._processes = started.processes
        self._progress = started.progress
        self._max_in_flight = max_in_flight
        self._stuck_after_s = stuck_after_s
        self._loop = asyncio.get_running_loop()
        self._failure: str | None = None
        self._waiting: set[asyncio.Timeout] = set()
        self._done_at_s: deque[float] = deque(maxlen=64)
        self._request_ids = itertools.count(1)
        self._adapter_ids = itertools.count(1)
        self._neutral: LoRARequest | None = None
        self._neutral_folder: tempfile.TemporaryDirectory[str] | None = None
        self._watcher = asyncio.create_task(self._watch())

    @property
    def failure(self) -> str | None:
        if self._failure is None and self.llm.errored:
            self._fail("vLLM's engine process ended")
        return self._failure

    async def ask(self, requests: Sequence[Request], lane: Lane, deadline: Deadline) -> list[Any]:
        """The finished requests of one question, side by side. Cancelling, or the deadline, aborts them inside vLLM.
        Raises EngineError's kinds."""
        self._admit(deadline)
        try:
            async with asyncio.timeout_at(_until(deadline)) as waiting:
                self._waiting.add(waiting)
                try:
                    outputs = await _together([self._finished(ids, params, lane) for ids, params in requests])
                finally:
                    self._waiting.discard(waiting)
        except TimeoutError:
            raise self._overdue() from None
        except EngineDeadError:
            raise EngineUnavailable(self._fail("vLLM's engine process ended")) from None
        except (VLLMValidationError, ValueError) as error:
            raise EngineError(f"vLLM refused this request: {type(error).__name__}") from error
        except EngineGenerateError as error:
            raise EngineError("vLLM failed on this request") from error
        self._done_at_s.append(time.monotonic())
        return outputs

    async def _finished(self, ids: list[int], params: Any, lane: Lane) -> Any:
        request_id = str(next(self._request_ids))
        prompt = {"type": "token", "prompt_token_ids": ids, "cache_salt": lane.salt}
        finished = None
        try:
            async for output in self.llm.generate(
                prompt, params, request_id, lora_request=lane.adapter or self._neutral, priority=lane.priority
            ):
                finished = output
        finally:
            if finished is None:  # vLLM forgets by itself what was withdrawn, but for the moment of handing it over
                await self.llm.abort(request_id)
        reason = finished.outputs[0].finish_reason if finished is not None and finished.outputs else "no answer"
        if reason not in ("stop", "length"):
            raise EngineError(f"vLLM ended this request: {reason}")
        return finished

    async def open(self) -> None:
        """Comes before the first question."""
        if self.llm.vllm_config.lora_config and current_platform.is_cpu():
            self._neutral_folder = tempfile.TemporaryDirectory(prefix="themis-")  # vLLM may read it again
            neutral = self.new_adapter("neutral", write_neutral(Path(self._neutral_folder.name)))
            await self.add_adapter(neutral)
            self._neutral = neutral

    def new_adapter(self, name: str, folder: Path) -> LoRARequest:
        """Neither number nor name is ever used again: vLLM takes equal ones for the same adapter."""
        number = next(self._adapter_ids)
        return LoRARequest(f"{name}#{number}", number, str(folder))

    async def add_adapter(self, adapter: LoRARequest) -> None:
        """Raises EngineUnavailable where vLLM can't load it, or holds none."""
        if not self.llm.vllm_config.lora_config:
            raise Unsupported("this engine holds no adapters: set max_adapters")
        try:
            await self.llm.add_lora(adapter)
        except EngineDeadError:
            raise EngineUnavailable(self._fail("vLLM's engine process ended")) from None
        except Exception as error:  # what went wrong in its process arrives as no other kind
            raise EngineUnavailable(f"vLLM can't load the adapter {adapter.lora_name}: {error}") from error

    async def remove_adapter(self, adapter: LoRARequest) -> None:
        if self.failure is None:
            await self.llm.remove_lora(adapter.lora_int_id)

    async def reset_prefix_cache(self) -> None:
        """Raises EngineError where vLLM did not, which it does not while blocks are in use."""
        if not await self.llm.reset_prefix_cache():
            raise EngineError("vLLM did not reset its prefix cache: blocks of it are in use")

    async def close(self) -> None:
        """Ends vLLM's processes; whoever still waits gets EngineUnavailable."""
        self._watcher.cancel()
        try:
            await asyncio.to_thread(self.llm.shutdown)
        finally:
            self._fail("the engine was unloaded")
            if self._neutral_folder is not None:
                self._neutral_folder.cleanup()

    # ------------------------------------------------------------------------------------------------------

    def _admit(self, deadline: Deadline) -> None:
        if self.failure is not None:
            raise EngineUnavailable(self.failure)
        if deadline.passed():
            raise DeadlineExceeded("the deadline passed before the work began")
        if len(self._waiting) >= self._max_in_flight:
            raise EngineOverloaded(f"{self._max_in_flight} questions are in flight already", self._retry_after_s())
        if not self._waiting:
            self._progress.note()  # it had nothing to do

    def _retry_after_s(self) -> float:
        """Until half of what is in flight is done, at the pace of the last requests."""
        if len(self._done_at_s) < 2:
            return 1.0
        each_s = (self._done_at_s[-1] - self._done_at_s[0]) / (len(self._done_at_s) - 1)
        return min(max(each_s * self._max_in_flight / 2, _RETRY_S[0]), _RETRY_S[1])

    def _overdue(self) -> EngineError:
        if self._failure is not None:
            return EngineUnavailable(self._failure)
        return DeadlineExceeded("the deadline passed before the work was done")

    async def _watch(self) -> None:
        while self.failure is None:
            await asyncio.sleep(min(_LOOK_S, self._stuck_after_s / 10))
            if self._waiting and time.monotonic() - self._progress.at_s > self._stuck_after_s:
                self._fail(f"vLLM has made no step for more than {self._stuck_after_s:g} s")

    def _fail(self, reason: str) -> str:
        """From here on nothing is computed: lets all callers go, and vLLM's processes with what they hold."""
        if self._failure is None:
            self._failure = reason
            for waiting in self._waiting:
                if not waiting.expired():
                    waiting.reschedule(self._loop.time())
            kill(self._processes)
        return self._failure


def _until(deadline: Deadline) -> float | None:
    if deadline.at_s == float("inf"):
        return None
    return asyncio.get_running_loop().time() + deadline.remaining_s()


async def _together(asked: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """All of them, or the first failure, and then the others are withdrawn."""
    if len(asked) == 1:
        return [await asked[0]]
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
