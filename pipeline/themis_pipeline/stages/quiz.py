"""Role-playing quizzing: a model plays a test writer, steered by difficulty, audience, subject, topic and task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from themis_judge.engines.base import Deadline
from themis_judge.scenarios import Scenario
from themis_pipeline.runner.stage import Reject
from themis_pipeline.stages.asking import Asker, Model
from themis_pipeline.stages.code import CodeRunner, Outcome, asserts_something
from themis_pipeline.stages.errors import BadSetting, Unparsable
from themis_pipeline.stages.gates import Code, Gates, Seen
from themis_pipeline.stages.instructions import planned
from themis_pipeline.stages.plan import Controls
from themis_pipeline.stages.seam import Context, Dropped
from themis_pipeline.stages.sections import heading, read_sections
from themis_proto.v1 import events_pb2 as ev

ROLE = (
    "You are an experienced writer of tests. You write one test question that people give to an AI assistant to find "
    "out how well it does one kind of task.\n\n"
)
RULES = (
    "- The question can be answered with what it says itself, and has an answer that can be checked.\n"
    "- Difficulty and wording fit the audience; the audience is not named in the question.\n"
    "- Write in English. Don't give hints at the answer in the question.\n"
)
MATERIAL_RULE = (
    "- Write the material yourself, 120 to 350 words; the answer follows from the material alone, and can't be known "
    "without it.\n"
)
TEST_RULE = (
    "- The test is Python without other packages: assert statements that call the function or class by the name that "
    "the question states. The answer passes it; wrong answers that come to mind don't.\n"
)
FORM = "Output nothing but these headings, each with its text below:\n"
FENCE = "```"

QUESTION, ANSWER, MATERIAL, TEST = "Question", "Answer", "Material", "Test"
SECTIONS = {
    "math": (QUESTION, ANSWER),
    "reading_comprehension": (MATERIAL, QUESTION, ANSWER),
    "programming": (QUESTION, ANSWER, TEST),
}
DESCRIBED = {
    QUESTION: "the question as it is put to the assistant",
    ANSWER: "a correct and complete answer",
    MATERIAL: "the text that the question is about",
    TEST: "the test of the answer's code",
}


@dataclass(frozen=True, slots=True)
class Quiz:
    """An instruction with the writer's own answer. test: Python that the answer's code passes, else empty."""

    instruction: str
    answer: str
    test: str = ""


def prompt(scenario: Scenario, controls: Controls) -> str:
    """The user turn. Raises BadSetting for a scenario that has no quizzing."""
    sections = _sections(scenario.id)
    extra = (MATERIAL_RULE if MATERIAL in sections else "") + (TEST_RULE if TEST in sections else "")
    form = "\n".join(f"{heading(title)}\n({DESCRIBED[title]})" for title in sections)
    return (
        f"{ROLE}Kind of task: {scenario.name}. {scenario.definition}\n\n"
        f"Difficulty: {controls.difficulty}\nAudience: {controls.audience}\nSubject: {controls.subject}\n"
        f"Topic: {controls.topic}\nTask: {controls.task}\n\n"
        f"Rules:\n{RULES}{extra}\n{FORM}{form}\n"
    )


def template(scenario: Scenario) -> str:
    """What prompts have in common that differ in their controls."""
    return prompt(scenario, Controls("", "", "", "", ""))


def parse(scenario: str, answer: str) -> Quiz:
    """Raises Unparsable, and BadSetting for a scenario that has no quizzing."""
    titles = _sections(scenario)
    found = dict(zip(titles, read_sections(answer, titles), strict=True))
    instruction = found[QUESTION]
    if MATERIAL in found:
        instruction = f"{found[MATERIAL]}\n\n{instruction}"
    test = code_of(found[TEST]) if TEST in found else ""
    if TEST in found and not asserts_something(test):
        raise Unparsable("test_without_assert")
    return Quiz(instruction, found[ANSWER], test)


def code_of(text: str) -> str:
    """The text's only fenced block, or the whole text where it has no fence. Raises Unparsable: fences."""
    parts = text.split(FENCE)
    if len(parts) == 1:
        return text.strip() + "\n"
    if len(parts) != 3:
        raise Unparsable("fences")
    language, newline, code = parts[1].partition("\n")
    if not newline or len(language.split()) > 1 or not code.strip():
        raise Unparsable("fences")
    return code.rstrip() + "\n"


def _sections(scenario: str) -> tuple[str, ...]:
    if scenario not in SECTIONS:
        raise BadSetting(f"no quizzing for the scenario {scenario}")
    return SECTIONS[scenario]


@dataclass(frozen=True, slots=True)
class Quizzes:
    """Plans with values in, an instruction with its writer's answer out if it passes the gates. An answer to a
    programming task has to pass the writer's own test, and an answer of nothing must not.

    code: None runs no code: a programming task then goes on without its test, and its answer is as unproven as those
    to other tasks.
    """

    scenarios: Mapping[str, Scenario]
    asker: Asker
    writer: Model
    gates: Gates
    code: CodeRunner | None
    dropped: Dropped

    async def handle(self, event: ev.Plan, context: Context) -> Sequence[ev.Instruction]:
        if event.WhichOneof("kind") != "quiz" or event.scenario not in SECTIONS:
            raise Reject("plan", "no plan for quizzing of a scenario that has it")
        told = event.quiz
        controls = Controls(told.difficulty, told.audience, told.subject, told.topic, told.task)
        asked = prompt(self.scenarios[event.scenario], controls)
        quiz, completion = await self.asker.read(
            self.writer, asked, lambda answer: parse(event.scenario, answer), event.id, 0, context
        )
        seen = self.gates.look(quiz.instruction, event.scenario, MATERIAL in SECTIONS[event.scenario])
        code = seen.rejection.code if seen.rejection is not None else await self._fails(quiz, context.deadline)
        if code is not None:
            self.dropped(self.asker.stage, code.value)
            return []
        return [self._instruction(event, quiz, seen, self.writer.reference(completion))]

    def _instruction(self, event: ev.Plan, quiz: Quiz, seen: Seen, writer: ev.ModelRef) -> ev.Instruction:
        common = template(self.scenarios[event.scenario])
        instruction = planned(event, 0, quiz.instruction, ev.INSTRUCTION_ORIGIN_QUIZ, writer, common)
        instruction.reference, instruction.language = quiz.answer, seen.language
        if quiz.test and self.code is not None:
            instruction.test_code = quiz.test
        return instruction

    async def _fails(self, quiz: Quiz, deadline: Deadline) -> Code | None:
        if not quiz.test or self.code is None:
            return None
        try:
            code = code_of(quiz.answer)
        except Unparsable:
            return Code.ANSWER_FAILS_TEST
        if await self.code.run(code, quiz.test, deadline) is not Outcome.PASSED:
            return Code.ANSWER_FAILS_TEST
        if await self.code.run("", quiz.test, deadline) is Outcome.PASSED:
            return Code.EMPTY_TEST
        return None
