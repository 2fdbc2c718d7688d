"""What is to be made: seeded plan records, so that the balance of scenarios is no variable in some process.

A block of plans asks for as many instructions as the shares sum to, of each scenario as many as its share says. Each
reference text gives one block, so that the ratios are exact after every text, and a repeat of a text gives the same
records, whatever happened in between. What gates drop later is not made up for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from themis_pipeline.events import ids
from themis_pipeline.runner.stage import Reject
from themis_pipeline.stages import chance
from themis_pipeline.stages.errors import BadSetting
from themis_pipeline.stages.seam import Context, Dropped
from themis_pipeline.stages.sources import PLANS_SOURCE, SourceShares, named
from themis_pipeline.stages.values import Questioning, Quizzing
from themis_proto.v1 import events_pb2 as ev

QUESTIONING = "questioning"
QUIZZING = "quizzing"
MAX_BLOCK = 1000
"""Instructions."""
MAX_TEXT_CHARS = 20_000
"""Of a reference text: it stands in each of its plans, and in all that comes of them."""


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """shares: how many instructions of each scenario a text is to give. instructions_per_call: 1 or 5, for
    questioning; what a share leaves over beside fives is asked for one at a time."""

    seed: int
    shares: Mapping[str, int]
    instructions_per_call: int = 5


@dataclass(frozen=True, slots=True)
class Controls:
    """What a test writer is told."""

    difficulty: str
    audience: str
    subject: str
    topic: str
    task: str


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """id: among its text's plans; index: its place in its text's block; controls: what quizzing starts from, None for
    questioning."""

    id: str
    index: int
    scenario: str
    template: str
    instructions: int
    seed: int
    controls: Controls | None = None


@dataclass(frozen=True, slots=True)
class Planner:
    """Raises BadSetting for scenarios without data, shares that are no counts, or a block beyond its bound."""

    settings: PlanSettings
    questioning: Mapping[str, Questioning]
    quizzing: Mapping[str, Quizzing]

    def __post_init__(self) -> None:
        shares = self.settings.shares
        unknown = sorted(set(shares) - set(self.questioning) - set(self.quizzing))
        if unknown:
            raise BadSetting(f"no data for the scenarios {', '.join(unknown)}")
        both = sorted(set(self.questioning) & set(self.quizzing))
        if both:
            raise BadSetting(f"data for questioning and for quizzing of {', '.join(both)}; one of both is expected")
        if any(share < 0 for share in shares.values()) or not 0 < sum(shares.values()) <= MAX_BLOCK:
            raise BadSetting(f"shares: whole numbers from 0 on are expected, 1 to {MAX_BLOCK} in all")
        if self.settings.instructions_per_call not in (1, 5):
            raise BadSetting("instructions_per_call: 1 or 5 is expected")

    def block(self, reference_id: str) -> list[PlanRecord]:
        """The records that one reference text gives."""
        calls = [
            (scenario, turn, instructions)
            for scenario in sorted(self.settings.shares)
            for turn, instructions in enumerate(self._calls(scenario))
        ]
        order = chance.shuffled(calls, self.settings.seed, reference_id, "order")
        return [self._record(reference_id, index, *call) for index, call in enumerate(order)]

    def _calls(self, scenario: str) -> list[int]:
        """How many instructions each call asks for."""
        share, at_once = self.settings.shares[scenario], self.settings.instructions_per_call
        if scenario in self.quizzing:
            at_once = 1
        return [at_once] * (share // at_once) + [1] * (share % at_once)

    def _record(self, reference_id: str, index: int, scenario: str, turn: int, instructions: int) -> PlanRecord:
        # Of all that it is drawn from, and not of its place: under other shares the same id still asks for the same.
        names = (self.settings.seed, reference_id, scenario, turn, instructions)
        seed = chance.number(*names) >> 32
        id = ids.derived(reference_id, f"plan {self.settings.seed} {scenario} {instructions}", turn)
        if scenario in self.quizzing:
            controls = self._controls(self.quizzing[scenario], reference_id, turn)
            return PlanRecord(id, index, scenario, QUIZZING, instructions, seed, controls)
        return PlanRecord(id, index, scenario, QUESTIONING, instructions, seed)

    def _controls(self, values: Quizzing, reference_id: str, turn: int) -> Controls:
        names = (self.settings.seed, reference_id, values.scenario)
        subject = chance.dealt(sorted(values.subjects), turn, *names, "subject")
        return Controls(
            difficulty=chance.dealt(values.difficulties, turn, *names, "difficulty"),
            audience=chance.dealt(values.audiences, turn, *names, "audience"),
            subject=subject,
            topic=chance.dealt(values.subjects[subject], turn, *names, "topic", subject),
            task=chance.dealt(values.tasks, turn, *names, "task"),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Each reference text's block of plans. A text that says which scenarios it suits gives no questioning plans of
    the others: the ratios then hold over the texts that suit all. sources: how much of each source is taken."""

    planner: Planner
    sources: SourceShares
    dropped: Dropped
    stage: str = "plan"

    async def handle(self, event: ev.ReferenceText, context: Context) -> Sequence[ev.Plan]:
        named(event.source)
        if not event.text.strip():
            raise Reject("text", "it is required")
        if len(event.text) > MAX_TEXT_CHARS:
            raise Reject("text_too_long", f"more than {MAX_TEXT_CHARS} characters; cut it into several texts")
        unknown = set(event.scenarios) - set(self.planner.questioning)
        if unknown:
            raise Reject("scenarios", "one of them is not questioned by reference here")
        text_id = context.ingress_id(event.source, event.id)
        if not self.sources.keep(event.source, text_id):
            self.dropped(self.stage, "source_share")
            return []
        suited = set(event.scenarios) or set(self.planner.questioning)
        return [
            self._event(record, event, context)
            for record in self.planner.block(text_id)
            if record.controls is not None or record.scenario in suited
        ]

    def _event(self, record: PlanRecord, text: ev.ReferenceText, context: Context) -> ev.Plan:
        plan = ev.Plan(
            id=record.id,
            seed=record.seed,
            index=record.index,
            scenario=record.scenario,
            template=record.template,
            at=context.at,
        )
        if record.controls is None:
            plan.question.CopyFrom(ev.QuestionPlan(reference=text, instructions=record.instructions))
            origin = ev.Provenance(source=text.source, source_id=text.id, licence=text.licence)
        else:
            plan.quiz.CopyFrom(ev.QuizPlan(**asdict(record.controls)))
            origin = ev.Provenance(source=PLANS_SOURCE)
        plan.provenance.CopyFrom(origin)
        return plan
