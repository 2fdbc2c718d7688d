"""The scenario of each new prompt: as its source says, or as the judge classifies it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from themis_client import AsyncClient, InvalidItem
from themis_pipeline.runner.stage import Reject
from themis_pipeline.stages.convert import conversation, prompt_messages
from themis_pipeline.stages.judging import only
from themis_pipeline.stages.seam import Context
from themis_pipeline.stages.sources import named
from themis_proto.v1 import events_pb2 as ev


@dataclass(frozen=True, slots=True)
class Classify:
    """scenarios: the ids that are known."""

    client: AsyncClient
    scenarios: Collection[str]

    async def handle(self, event: ev.NewPrompt, context: Context) -> Sequence[ev.ClassifiedPrompt]:
        named(event.source)
        messages = prompt_messages(event)
        classified = ev.ClassifiedPrompt(
            id=context.ingress_id(event.source, event.id),
            prompt=event,
            scenario=event.scenario,
            scenario_basis=ev.SCENARIO_BASIS_GIVEN,
            provenance=ev.Provenance(source=event.source, source_id=event.id, licence=event.licence),
            at=context.at,
        )
        if not event.scenario:
            try:
                asked = conversation(messages)
            except InvalidItem as error:
                raise Reject("messages", error.field) from error
            found = await only(self.client.classify([asked], timeout_s=context.deadline.remaining_s()))
            classified.scenario = found.scenario
            classified.scenario_basis = ev.SCENARIO_BASIS_CLASSIFIED
            classified.provenance.classifier_version = found.version
            told = {one.scenario: one.probability for one in found.probabilities}
            if found.scenario in told:
                classified.scenario_probability = told[found.scenario]
        if classified.scenario not in self.scenarios:
            raise Reject("scenario", "the scenario is not known here")
        return [classified]
