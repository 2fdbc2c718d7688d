"""Instructions as events, from plans and from prompts."""

from __future__ import annotations

import hashlib

from themis_pipeline.events import ids
from themis_pipeline.stages.convert import prompt_messages, text_message
from themis_proto.v1 import events_pb2 as ev

OWN_ANSWER = "own"
"""From what the id of an instruction's own answer is derived, where it stands among the candidates."""


def planned(
    plan: ev.Plan, index: int, text: str, origin: ev.InstructionOrigin.ValueType, writer: ev.ModelRef, template: str
) -> ev.Instruction:
    """What a model wrote by a plan. The scenario is known by construction. template: all that prompts of the kind have
    in common."""
    instruction = ev.Instruction(
        id=ids.derived(plan.id, "instruction", index),
        made_from=plan.id,
        index=index,
        messages=[text_message("user", text)],
        scenario=plan.scenario,
        scenario_basis=ev.SCENARIO_BASIS_CONSTRUCTED,
        origin=origin,
        plan=plan,
        provenance=plan.provenance,
        at=plan.at,
    )
    instruction.provenance.generator.CopyFrom(writer)
    instruction.provenance.template_digest = hashlib.sha256(template.encode()).hexdigest()
    return instruction


def asked_by_people(prompt: ev.ClassifiedPrompt) -> ev.Instruction:
    """A prompt from outside. Raises Reject."""
    instruction = ev.Instruction(
        id=ids.derived(prompt.id, "instruction"),
        made_from=prompt.id,
        messages=prompt_messages(prompt.prompt),
        scenario=prompt.scenario,
        scenario_basis=prompt.scenario_basis,
        origin=ev.INSTRUCTION_ORIGIN_PEOPLE,
        provenance=prompt.provenance,
        at=prompt.at,
    )
    if prompt.HasField("scenario_probability"):
        instruction.scenario_probability = prompt.scenario_probability
    if prompt.prompt.HasField("reference"):
        instruction.reference = prompt.prompt.reference
    return instruction
