"""Several responses per instruction, from several models; and answers whose order is known by construction.

An answer to a sibling is asked for as the sibling's own handling asks for it, of the model that comes first there and
under the same key of the journal, so that it is the same answer and is paid once, whichever of both comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from themis_pipeline.events import ids
from themis_pipeline.llm.calls import Message
from themis_pipeline.llm.errors import NoText
from themis_pipeline.runner.stage import Reject
from themis_pipeline.stages import chance
from themis_pipeline.stages.altering import Altering
from themis_pipeline.stages.asking import Asker, Model
from themis_pipeline.stages.convert import plain_text, text_message
from themis_pipeline.stages.errors import BadSetting
from themis_pipeline.stages.gather import together
from themis_pipeline.stages.instructions import OWN_ANSWER
from themis_pipeline.stages.known_order import LengthChange, Made, Pair
from themis_pipeline.stages.seam import Context, Dropped
from themis_proto.v1 import events_pb2 as ev
from themis_proto.v1 import judge_pb2 as pb

_METHODS = {
    Made.SIBLING: ev.RESPONSE_METHOD_SIBLING,
    Made.CORRUPTED_FACT: ev.RESPONSE_METHOD_CORRUPTED_FACT,
    Made.FAILING_CODE: ev.RESPONSE_METHOD_FAILS_TEST,
    Made.INJECTED_SUFFIX: ev.RESPONSE_METHOD_INJECTED_SUFFIX,
}
_CHANGES = {
    LengthChange.NONE: ev.LENGTH_CHANGE_UNSPECIFIED,
    LengthChange.PADDED: ev.LENGTH_CHANGE_PADDED,
    LengthChange.SHORTENED: ev.LENGTH_CHANGE_SHORTENED,
}


@dataclass(frozen=True, slots=True)
class _Draw:
    """A model, by its place in the settings, and which of its answers to one instruction this is, from 0."""

    place: int
    turn: int


@dataclass(frozen=True, slots=True)
class Respond:
    """responses: how many are asked for, of models chosen by weight, each once before any comes again; min_responses:
    with fewer the instruction is given up, since models that give no text, or the same as another, are passed over.

    Raises BadSetting where no model has a weight, or fewer responses are asked for than needed.
    """

    asker: Asker
    models: Sequence[Model]
    altering: Altering
    dropped: Dropped
    responses: int = 5
    min_responses: int = 2

    def __post_init__(self) -> None:
        if not any(model.weight > 0 for model in self.models):
            raise BadSetting("models: at least one with a weight above 0 is expected")
        if not 1 <= self.min_responses <= self.responses:
            raise BadSetting("min_responses: 1 to as many as `responses` are expected")

    async def handle(self, event: ev.Instruction, context: Context) -> Sequence[ev.ResponseSet]:
        messages = _chat(event)
        asked = [self._answer(draw, messages, event.id, context) for draw in self._draws(event.id)]
        answered = await together(asked)
        found = _different([one for one in answered if isinstance(one, ev.Candidate)])
        if len(found) < self.min_responses:
            raise Reject("too_few_responses", f"{len(found)} of {self.min_responses}")
        answers = ev.ResponseSet(id=ids.derived(event.id, "responses"), instruction=event, candidates=found)
        await self._add_known(answers, context)
        # Told at the end alone: what is put off before is handled again.
        self._tell_dropped(answered, len(found))
        return [answers]

    def _tell_dropped(self, answered: Sequence[ev.Candidate | str], kept: int) -> None:
        codes = [one for one in answered if isinstance(one, str)]
        for code in (*codes, *["same_answer"] * (len(answered) - len(codes) - kept)):
            self.dropped(self.asker.stage, code)

    def _draws(self, id: str) -> list[_Draw]:
        weights = [model.weight for model in self.models]
        weighted = sum(weight > 0 for weight in weights)
        draws: list[_Draw] = []
        while len(draws) < self.responses:
            turn, left = len(draws) // weighted, self.responses - len(draws)
            draws += [_Draw(place, turn) for place in chance.weighted(weights, min(left, weighted), id, turn)]
        return draws

    async def _answer(
        self, draw: _Draw, messages: tuple[Message, ...], instruction_id: str, context: Context
    ) -> ev.Candidate | str:
        """By one model; a code where it gave no text. A replay allows one more try."""
        found: ev.Candidate | str = ""
        for attempt in range(1 + context.replays):
            found = await self._once(draw, messages, instruction_id, context, attempt)
            if isinstance(found, ev.Candidate):
                break
        return found

    async def _once(
        self, draw: _Draw, messages: tuple[Message, ...], instruction_id: str, context: Context, attempt: int
    ) -> ev.Candidate | str:
        model, index = self.models[draw.place], self._index(draw)
        try:
            completion = await self.asker.complete(model, messages, instruction_id, index, context, attempt)
        except NoText as error:
            return type(error).__name__
        candidate = _candidate(self._id(draw, instruction_id), completion.text)
        candidate.generator.CopyFrom(model.reference(completion))
        candidate.method = ev.RESPONSE_METHOD_ANSWERED
        candidate.temperature = self.asker.sampling.temperature_of(attempt)
        return candidate

    def _index(self, draw: _Draw) -> int:
        """Of the call, for the journal."""
        return draw.turn * len(self.models) + draw.place

    def _id(self, draw: _Draw, instruction_id: str) -> str:
        return ids.derived(instruction_id, f"candidate {self.models[draw.place].endpoint}", draw.turn)

    # -------------------------------------------------------------------------------------------- known orders

    async def _add_known(self, answers: ev.ResponseSet, context: Context) -> None:
        instruction, answered = answers.instruction, answers.candidates[0]
        answer = _text(answered)
        sibling = await self._siblings_answer(instruction, context)
        seed = chance.number("altered", instruction.id) >> 32
        sibling_text = None if sibling is None else _text(sibling)
        pairs = await self.altering.pairs(instruction, answer, sibling_text, seed, context.deadline)
        for pair in pairs:
            better = answered if pair.better == answer else self._own(answers)
            made_from = sibling if pair.made is Made.SIBLING and sibling is not None else better
            answers.candidates.append(_worse(instruction.id, pair, made_from))
            answers.known_orders.add(better=better.id, worse=answers.candidates[-1].id)

    async def _siblings_answer(self, instruction: ev.Instruction, context: Context) -> ev.Candidate | None:
        if not instruction.HasField("sibling"):
            return None
        sibling = instruction.sibling
        draw = self._draws(sibling.id)[0]
        found = await self._answer(draw, (Message("user", sibling.text),), sibling.id, context)
        return found if isinstance(found, ev.Candidate) else None

    def _own(self, answers: ev.ResponseSet) -> ev.Candidate:
        """The instruction's own answer as a candidate: its writer's, or a person's."""
        instruction = answers.instruction
        candidate = _candidate(ids.derived(instruction.id, OWN_ANSWER), instruction.reference)
        candidate.method = ev.RESPONSE_METHOD_ANSWERED
        if instruction.provenance.HasField("generator"):
            candidate.generator.CopyFrom(instruction.provenance.generator)
        answers.candidates.append(candidate)
        return candidate


def _different(found: Sequence[ev.Candidate]) -> list[ev.Candidate]:
    """Without those that say the same as one before them: which of two is better has then no answer."""
    kept: dict[str, ev.Candidate] = {}
    for candidate in found:
        kept.setdefault(_text(candidate).strip(), candidate)
    return list(kept.values())


def _worse(instruction_id: str, pair: Pair, made_from: ev.Candidate) -> ev.Candidate:
    worse = _candidate(ids.derived(instruction_id, f"altered {pair.made.value}"), pair.worse)
    worse.method, worse.made_from, worse.length_change = _METHODS[pair.made], made_from.id, _CHANGES[pair.change]
    if made_from.HasField("generator"):
        worse.generator.CopyFrom(made_from.generator)
    return worse


def _chat(instruction: ev.Instruction) -> tuple[Message, ...]:
    """Raises Reject for a conversation that is not text between user and assistant."""
    messages = []
    for message in instruction.messages:
        match message.role:
            case "system" | "user" | "assistant" as role:
                messages.append(Message(role, plain_text(message)))
            case _:
                raise Reject("role", "a turn is neither system's, user's nor assistant's")
    if not messages or messages[-1].role != "user":
        raise Reject("role", "the last turn is not the user's")
    return tuple(messages)


def _candidate(id: str, text: str) -> ev.Candidate:
    return ev.Candidate(id=id, response=pb.Response(messages=[text_message("assistant", text)]))


def _text(candidate: ev.Candidate) -> str:
    return plain_text(candidate.response.messages[0])
