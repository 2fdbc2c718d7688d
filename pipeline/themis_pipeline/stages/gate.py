"""The gates of people's prompts: how much of each source is taken, and which prompts can be answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from themis_pipeline.stages.convert import plain_text
from themis_pipeline.stages.gates import Gates, words
from themis_pipeline.stages.instructions import asked_by_people
from themis_pipeline.stages.seam import Context, Dropped
from themis_pipeline.stages.sources import SourceShares
from themis_proto.v1 import events_pb2 as ev

BRING_MATERIAL = frozenset({"reading_comprehension"})
MATERIAL_WORDS = 80
"""So long an instruction may well hold the text that it speaks of."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Prompts with their scenario in, those that pass out as instructions. sources: how much of each is taken.

    A conversation is looked at as a whole: its last turn may be a mere "Why?".
    """

    gates: Gates
    sources: SourceShares
    dropped: Dropped
    stage: str = "gate"

    async def handle(self, event: ev.ClassifiedPrompt, context: Context) -> Sequence[ev.Instruction]:
        if not self.sources.keep(event.provenance.source, event.id):
            self.dropped(self.stage, "source_share")
            return []
        instruction = asked_by_people(event)
        text = "\n\n".join(map(plain_text, instruction.messages))
        material = event.scenario in BRING_MATERIAL or len(instruction.messages) > 1 or words(text) >= MATERIAL_WORDS
        seen = self.gates.look(text, event.scenario, brings_material=material, by_people=True)
        if seen.rejection is not None:
            self.dropped(self.stage, seen.rejection.code.value)
            return []
        instruction.language = seen.language
        return [instruction]
