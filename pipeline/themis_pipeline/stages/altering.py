"""What is made of answers so that their order is known: all kinds of it, for one instruction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from themis_judge.engines.base import Deadline
from themis_pipeline.stages import known_order
from themis_pipeline.stages.code import CodeRunner
from themis_pipeline.stages.known_order import Pair
from themis_pipeline.stages.values import Opposites
from themis_proto.v1 import events_pb2 as ev


@dataclass(frozen=True, slots=True)
class Altering:
    """standard: the scenarios whose answers are right or wrong, so that one with another fact is worse. code: None
    runs none, and makes no pairs of code."""

    standard: Collection[str]
    opposites: Opposites
    suffixes: Sequence[str]
    fillers: Sequence[str]
    code: CodeRunner | None

    async def pairs(
        self, instruction: ev.Instruction, answer: str, sibling_answer: str | None, seed: int, deadline: Deadline
    ) -> list[Pair]:
        """answer: a model's to the instruction; sibling_answer: to its sibling. Raises CodeTooLate."""
        made: list[Pair | None] = [known_order.injected(answer, self.suffixes, seed)]
        if sibling_answer is not None:
            made.append(known_order.sibling(answer, instruction.sibling.text, sibling_answer))
        made.append(await self._of_the_reference(instruction, seed, deadline))
        matched = [known_order.matched(pair, self.fillers, seed) for pair in made if pair is not None]
        return [pair for pair in matched if pair is not None]

    async def _of_the_reference(self, instruction: ev.Instruction, seed: int, deadline: Deadline) -> Pair | None:
        reference = instruction.reference
        if not reference:
            return None
        if instruction.test_code:
            # Only a template of ours makes tests; whatever else claims to have one isn't run.
            if self.code is None or instruction.origin != ev.INSTRUCTION_ORIGIN_QUIZ:
                return None
            return await known_order.failing_code(reference, instruction.test_code, self.code, deadline, seed)
        if instruction.scenario not in self.standard:
            return None
        return known_order.corrupted(reference, self.opposites, seed)
