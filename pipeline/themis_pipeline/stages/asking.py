"""Questions to models whose answers have to be read: asked again while they can't be, then given up with a code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from themis_pipeline.llm.calls import CallContext, CallKey, Completion, Message, Request, Role
from themis_pipeline.llm.client import LLM
from themis_pipeline.llm.errors import NoText, Refused, TryLater
from themis_pipeline.runner.stage import Reject, Retry
from themis_pipeline.stages import chance
from themis_pipeline.stages.errors import BadSetting, Unparsable
from themis_pipeline.stages.seam import Context
from themis_proto.v1 import events_pb2 as ev

ReadT = TypeVar("ReadT")


@dataclass(frozen=True, slots=True)
class Model:
    """endpoint: its name in the settings; name, lineage: of the weights behind it."""

    endpoint: str
    name: str
    lineage: str
    weight: float = 1.0

    def reference(self, completion: Completion) -> ev.ModelRef:
        return ev.ModelRef(name=completion.model or self.name, endpoint=self.endpoint, lineage=self.lineage)


@dataclass(frozen=True, slots=True)
class Sampling:
    """tries: how often an answer is asked for until it can be read, at least 1; retry_temperature: of every further
    try, since an answer at temperature 0 would come again as it was."""

    max_tokens: int = 2048
    temperature: float = 0.7
    retry_temperature: float = 0.7
    tries: int = 3

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise BadSetting("tries: at least 1 is expected")

    def temperature_of(self, attempt: int) -> float:
        return self.retry_temperature if attempt else self.temperature


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one model on behalf of one stage."""

    llm: LLM
    stage: str
    sampling: Sampling
    role: Role = "generator"

    async def read(
        self, model: Model, prompt: str, parse: Callable[[str], ReadT], input_id: str, place: int, context: Context
    ) -> tuple[ReadT, Completion]:
        """What `parse` makes of the answer. place: of the question among those about this input, from 0.

        Raises Retry, and Reject with the last try's code where no answer could be read.
        """
        code = ""
        # Earlier answers stand in the journal: those that a replay had allowed come again at no cost, before new ones.
        tries = self.sampling.tries * (1 + context.replays)
        for attempt in range(tries):
            found = await self._once(model, prompt, parse, input_id, place, context, attempt)
            if not isinstance(found, str):
                return found
            code = found
        raise Reject(f"unreadable_{code}", f"in {tries} answers")

    async def _once(
        self,
        model: Model,
        prompt: str,
        parse: Callable[[str], ReadT],
        input_id: str,
        place: int,
        context: Context,
        attempt: int,
    ) -> tuple[ReadT, Completion] | str:
        """A code where the answer is of no use."""
        try:
            completion = await self.complete(model, (Message("user", prompt),), input_id, place, context, attempt)
            return parse(completion.text), completion
        except NoText as error:
            return type(error).__name__
        except Unparsable as error:
            return error.code

    async def complete(
        self,
        model: Model,
        messages: tuple[Message, ...],
        input_id: str,
        index: int,
        context: Context,
        attempt: int = 0,
    ) -> Completion:
        """One call, journalled under its index and the attempt, so that a repeat is paid once. Raises Retry, Reject,
        NoText and SameLineage."""
        sampling = self.sampling
        request = Request(
            endpoint=model.endpoint,
            messages=messages,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature_of(attempt),
            role=self.role,
            # Not the index alone: inputs with equal prompts would get equal answers.
            seed=chance.number("sampling", self.stage, input_id, index, attempt) >> 33,
        )
        asked = CallContext(CallKey(input_id, self.stage, index, attempt), context.deadline)
        try:
            return await self.llm.complete(request, asked)
        except TryLater as error:
            raise Retry(error.retry_after_s, type(error).__name__) from error
        except Refused as error:
            raise Reject(type(error).__name__) from error
