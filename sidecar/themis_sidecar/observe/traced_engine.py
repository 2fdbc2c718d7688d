"""An engine whose every call is a span."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import Span, Status, StatusCode, Tracer, get_current_span

from themis_judge.engines.base import (
    NO_DEADLINE,
    Deadline,
    Engine,
    EngineInfo,
    Generation,
    Labels,
    LabelScores,
    Likelihood,
    Prompt,
    Sampling,
    Tokenizer,
    Usage,
)

_MAKES_ENGINES = ("adapted", "background")


class TracedEngine:
    """See `themis_judge.engines.base.Engine`. Equal questions in flight share one computation, and its span belongs
    to the call that asked first."""

    def __init__(self, engine: Engine, tracer: Tracer) -> None:
        self._engine = engine
        self._tracer = tracer

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    @property
    def tokenizer(self) -> Tokenizer | None:
        return self._engine.tokenizer

    @property
    def failure(self) -> str | None:
        return self._engine.failure

    async def load(self) -> None:
        await self._engine.load()

    async def unload(self) -> None:
        await self._engine.unload()

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        with self._span("label_logprobs") as span:
            scores = await self._engine.label_logprobs(prompt, labels, deadline)
            _tell(span, scores.usage)
        return scores

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation:
        with self._span("generate") as span:
            made = await self._engine.generate(prompt, sampling, deadline)
            _tell(span, made.usage)
        return made

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], deadline: Deadline = NO_DEADLINE
    ) -> Likelihood:
        with self._span("loglikelihood") as span:
            told = await self._engine.loglikelihood(prompt, continuation, deadline)
            _tell(span, told.usage)
        return told

    def __getattr__(self, name: str) -> Any:
        """What the engine offers beside; the engines that it makes (Adaptable, Prioritised) are traced as it is."""
        offered = getattr(self._engine, name)
        if name not in _MAKES_ENGINES:
            return offered

        def make(*arguments: Any) -> Engine:
            return TracedEngine(offered(*arguments), self._tracer)

        return make

    @contextmanager
    def _span(self, question: str) -> Iterator[Span]:
        if not get_current_span().is_recording():  # a call that isn't sampled, or the server's own warm-up
            yield get_current_span()
            return
        with self._tracer.start_as_current_span(
            f"engine/{question}", record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(Status(StatusCode.ERROR))
                raise


def _tell(span: Span, usage: Usage) -> None:
    span.set_attributes(
        {
            "themis.queued_s": usage.queued_s,
            "themis.computed_s": usage.computed_s,
            "themis.prompt_tokens": usage.prompt_tokens,
            "themis.cached_tokens": usage.cached_tokens,
            "themis.completion_tokens": usage.completion_tokens,
        }
    )
