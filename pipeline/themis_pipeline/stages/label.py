"""Labels: the teacher's critique and rating of single responses, its preference between two in both orders, and the
orders that are known by construction, which need no teacher. Of some instructions people get tasks as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from themis_judge.prompts import PAIR_START
from themis_judge.scenarios import Scenario
from themis_pipeline.events import ids
from themis_pipeline.runner.stage import Reject
from themis_pipeline.stages import chance, evaluation
from themis_pipeline.stages.asking import Asker, Model
from themis_pipeline.stages.convert import judge_messages, judge_response
from themis_pipeline.stages.evaluation import Form
from themis_pipeline.stages.gather import together
from themis_pipeline.stages.instructions import OWN_ANSWER
from themis_pipeline.stages.seam import Context, Dropped
from themis_pipeline.stages.tasks import Tasks, pair_id, shown_reference
from themis_proto.v1 import events_pb2 as ev
from themis_proto.v1 import judge_pb2 as pb

CHOICES = {"A": pb.PREFERENCE_A, "B": pb.PREFERENCE_B, "tie": pb.PREFERENCE_TIE}
_LETTERS = {"A": "A", "B": "B", "tie": evaluation.TIE}


@dataclass(frozen=True, slots=True)
class Label:
    """pairs: how many pairs of a set's answers the teacher compares; judge_lineage: of the judge that is to learn
    from the labels; tasks: what people get. The asker's role is the teacher's, so that its lineage is checked with
    every call.

    One evaluation that can't be read makes a dead letter of the whole set: a replay with more tries pays for nothing
    that was read.
    """

    scenarios: Mapping[str, Scenario]
    asker: Asker
    teacher: Model
    judge_lineage: str
    form: Form
    tasks: Tasks
    dropped: Dropped
    pairs: int = 1

    async def handle(self, event: ev.ResponseSet, context: Context) -> Sequence[ev.Labelled | ev.AnnotationTask]:
        if event.instruction.scenario not in self.scenarios:
            raise Reject("scenario", "the scenario is not known here")
        known = self._known(event)
        # Next to itself as the reference the instruction's own answer would say nothing.
        own = ids.derived(event.instruction.id, OWN_ANSWER)
        answered = [one for one in event.candidates if one.method == ev.RESPONSE_METHOD_ANSWERED and one.id != own]
        chosen = self._pairs(event, answered)
        singles = [self._single(event, place, one, context) for place, one in enumerate(answered)]
        first = len(answered)
        compared = [self._compared(event, first + 2 * place, pair, context) for place, pair in enumerate(chosen)]
        made = await together([*singles, *compared])
        for disagreed in made:
            if not disagreed:
                self.dropped(self.asker.stage, "orders_disagree")
        scenario = self.scenarios[event.instruction.scenario]
        tasks = self.tasks.of(event.instruction, answered, scenario)
        return [*(label for labels in made for label in labels), *known, *tasks]

    def _pairs(
        self, event: ev.ResponseSet, answered: Sequence[ev.Candidate]
    ) -> list[tuple[ev.Candidate, ev.Candidate]]:
        return chance.shuffled(list(combinations(answered, 2)), "pairs", event.id)[: self.pairs]

    async def _single(
        self, event: ev.ResponseSet, place: int, candidate: ev.Candidate, context: Context
    ) -> list[ev.Labelled]:
        instruction = event.instruction
        scenario = self.scenarios[instruction.scenario]
        reference = shown_reference(instruction, scenario)
        asked = evaluation.single(
            scenario,
            judge_messages(instruction.messages),
            judge_response(candidate.response),
            reference,
            self.form,
        )
        found, completion = await self.asker.read(
            self.teacher, asked.prompt, lambda answer: evaluation.read_single(answer, asked), event.id, place, context
        )
        mode = ev.LABEL_MODE_SINGLE if reference is None else ev.LABEL_MODE_REFERENCE
        label = self._labelled(event, [candidate], mode, ids.derived(candidate.id, "label"))
        label.rating, label.critique, label.prompt = found.rating, found.text, asked.own
        label.provenance.teacher.CopyFrom(self.teacher.reference(completion))
        for point in found.points:
            kind = ev.POINT_KIND_STRENGTH if point.strength else ev.POINT_KIND_SHORTCOMING
            label.points.add(criterion=point.criterion, kind=kind, text=point.text, rating=point.rating)
        return [label]

    async def _compared(
        self, event: ev.ResponseSet, place: int, pair: tuple[ev.Candidate, ev.Candidate], context: Context
    ) -> list[ev.Labelled]:
        """Both orders, or nothing where they contradict each other: a teacher that goes by the order teaches that."""
        first, second = await together(
            [self._in_order(event, place, pair, False, context), self._in_order(event, place + 1, pair, True, context)]
        )
        if evaluation.turned(second[1]) != first[1]:
            return []
        return [first[0], second[0]]

    async def _in_order(
        self,
        event: ev.ResponseSet,
        place: int,
        pair: tuple[ev.Candidate, ev.Candidate],
        swapped: bool,
        context: Context,
    ) -> tuple[ev.Labelled, str]:
        shown = pair[::-1] if swapped else pair
        instruction = event.instruction
        scenario = self.scenarios[instruction.scenario]
        asked = evaluation.pair(
            scenario,
            judge_messages(instruction.messages),
            judge_response(shown[0].response),
            judge_response(shown[1].response),
            shown_reference(instruction, scenario),
            self.form,
        )
        choice, completion = await self.asker.read(
            self.teacher, asked.prompt, evaluation.read_pair, event.id, place, context
        )
        label = self._labelled(event, shown, ev.LABEL_MODE_PAIRWISE, ids.derived(pair_id(*pair), "label", swapped))
        _prefer(label, choice, pair, swapped)
        label.critique, label.prompt = f"{PAIR_START}{_LETTERS[choice]}]]", asked.own
        label.provenance.teacher.CopyFrom(self.teacher.reference(completion))
        return label, choice

    def _known(self, event: ev.ResponseSet) -> list[ev.Labelled]:
        """Both orders of each pair whose order is known."""
        by_id = {candidate.id: candidate for candidate in event.candidates}
        labels = []
        for order in event.known_orders:
            if order.better not in by_id or order.worse not in by_id:
                raise Reject("known_order", "it names a candidate that the set doesn't hold")
            pair = (by_id[order.better], by_id[order.worse])
            for swapped in (False, True):
                shown = pair[::-1] if swapped else pair
                id = ids.derived(pair_id(*pair), "known", swapped)
                label = self._labelled(event, shown, ev.LABEL_MODE_PAIRWISE, id)
                _prefer(label, "B" if swapped else "A", pair, swapped)
                label.labeller, label.known = ev.LABELLER_CONSTRUCTION, label.preference
                labels.append(label)
        return labels

    def _labelled(
        self, event: ev.ResponseSet, candidates: Sequence[ev.Candidate], mode: ev.LabelMode.ValueType, id: str
    ) -> ev.Labelled:
        label = ev.Labelled(
            id=id,
            instruction=event.instruction,
            candidates=candidates,
            mode=mode,
            labeller=ev.LABELLER_TEACHER,
            provenance=event.instruction.provenance,
            at=event.instruction.at,
        )
        label.provenance.judge_lineage = self.judge_lineage
        return label


def _prefer(label: ev.Labelled, choice: str, pair: tuple[ev.Candidate, ev.Candidate], swapped: bool) -> None:
    label.preference, label.swapped = CHOICES[choice], swapped
    label.pair = pair_id(*pair)
