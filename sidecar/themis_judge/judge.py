"""The judge: items in, verdicts out. Usable without a server: `Judge(engine).score(items)`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from themis_judge import comparing, difficulty, prompts
from themis_judge.asking import Asker, Work
from themis_judge.classifying import Classifier
from themis_judge.engines.base import NO_DEADLINE, Deadline, Engine, Prompt
from themis_judge.errors import InvalidItem
from themis_judge.failures import ITEM_FAILURES, failure
from themis_judge.items import (
    Classification,
    CompareResult,
    Comparison,
    Difficulty,
    Item,
    Message,
    Options,
    Orders,
    RatingMode,
    ReasoningPolicy,
    Result,
    Rubric,
    Status,
    Truncation,
    Verdict,
)
from themis_judge.rating import added_tokens, rate
from themis_judge.scenarios import Scenario, load_scenarios
from themis_judge.validation import check_comparison, check_item, check_messages, check_options, check_text
from themis_judge.version import JudgeSettings, JudgeVersion, describe_version, references_of

_CHARACTERS_PER_TOKEN = 3  # a cautious estimate, for admission only
_PROMPT_TOKENS = 64  # what stands around the texts; the head is shared


@dataclass(frozen=True, slots=True)
class _Setting:
    """What an item is judged by."""

    task: prompts.Task
    scenario: str
    scenario_probability: float | None
    reference: str | None


class Judge:
    """Scores with one engine and one set of scenarios. Items fail one by one, with a status; nothing is raised
    for them. Use from one event loop at a time."""

    def __init__(
        self,
        engine: Engine,
        scenarios: Mapping[str, Scenario] | None = None,
        settings: JudgeSettings | None = None,
        version_id: str | None = None,
    ) -> None:
        """version_id: the id under which a store holds this judge; None makes one of what it consists of."""
        self.engine = engine
        self.scenarios = load_scenarios() if scenarios is None else scenarios
        self.settings = settings or JudgeSettings()
        self._references = references_of(self.settings, self.scenarios)
        self._version_id = version_id
        self._tasks: dict[tuple[str, bool], prompts.Task] = {}
        self._loaded: tuple[Asker, Classifier, JudgeVersion] | None = None

    async def load(self) -> None:
        """Loads the engine; everything below needs it."""
        await self.engine.load()
        asker = Asker(self.engine, self.settings.label_mass_threshold)
        version = describe_version(self.engine.info, self.settings, self.scenarios, self._references, self._version_id)
        self._loaded = (asker, Classifier(asker, self.scenarios), version)

    async def unload(self) -> None:
        self._loaded = None
        await self.engine.unload()

    def background(self) -> Judge:
        """This judge for work that waits while anybody else's does, where its engine can tell the two apart (see
        Prioritised), else itself. It lives as long as this one is loaded."""
        behind: Callable[[], Engine] | None = getattr(self.engine, "background", None)
        if behind is None:
            return self
        other = Judge(behind(), self.scenarios, self.settings, self._version_id)
        asker = Asker(other.engine, self.settings.label_mass_threshold)
        other._loaded = (asker, Classifier(asker, self.scenarios), self.version)
        return other

    @property
    def version(self) -> JudgeVersion:
        return self._parts[2]

    @property
    def asker(self) -> Asker:
        return self._parts[0]

    @property
    def _parts(self) -> tuple[Asker, Classifier, JudgeVersion]:
        if self._loaded is None:
            raise RuntimeError("the judge is not loaded; await judge.load() first")
        return self._loaded

    def score(self, items: Sequence[Item], options: Options | None = None) -> list[Result]:
        """Scores items without a server, in their order; loads the engine if need be. Not from a running loop."""

        async def run() -> list[Result]:
            if self._loaded is None:
                await self.load()
            return await self.score_all(items, options)

        return asyncio.run(run())

    async def score_all(
        self, items: Sequence[Item], options: Options | None = None, deadline: Deadline = NO_DEADLINE
    ) -> list[Result]:
        """One result per item, in their order."""
        return list(await asyncio.gather(*(self.score_one(item, options, deadline) for item in items)))

    async def score_one(self, item: Item, options: Options | None = None, deadline: Deadline = NO_DEADLINE) -> Result:
        """One item's result. Its status says what became of it; only CancelledError passes through."""
        options = options or Options()
        work = Work(deadline, keep_prompts=options.return_prompt)
        result = Result(Status.OK)
        try:
            check_options(options)
            check_item(item, self.scenarios, options.reasoning_policy)
            setting = await self._setting(item, work, options.truncation)
            result = replace(
                result,
                scenario=setting.scenario,
                scenario_probability=setting.scenario_probability,
                reference_used=setting.reference is not None,
            )
            rated, reasoning = await self._verdicts(item, setting, options, work)
            result = replace(result, verdict=rated, reasoning_verdict=reasoning)
        except ITEM_FAILURES as error:
            result = replace(result, **failure(error))
        return replace(
            result,
            usage=work.usage,
            tokenised_s=work.tokenised_s,
            truncated_tokens=work.cut_tokens,
            prompt="\n\n".join(work.shown) if work.shown else None,
        )

    async def _verdicts(
        self, item: Item, setting: _Setting, options: Options, work: Work
    ) -> tuple[Verdict, Verdict | None]:
        """The answer's verdict, and its reasoning's where that is judged apart."""
        rated = await self._verdict(item, setting, options, work, reasoning_alone=False)
        apart = options.reasoning_policy is ReasoningPolicy.APART
        if not apart or not prompts.has_reasoning(item.response.messages):
            return rated, None
        return rated, await self._verdict(item, setting, options, work, reasoning_alone=True)

    async def _verdict(
        self, item: Item, setting: _Setting, options: Options, work: Work, reasoning_alone: bool
    ) -> Verdict:
        layout = prompts.single(
            setting.task,
            item.messages,
            item.response,
            setting.reference,
            show_reasoning=options.reasoning_policy is ReasoningPolicy.JUDGE,
            reasoning_alone=reasoning_alone,
            split_tail=not isinstance(options.mode, RatingMode),
        )
        return await rate(self.asker, layout, setting.task, options, work)

    async def compare_one(
        self,
        comparison: Comparison,
        orders: Orders = Orders.BOTH,
        reasoning_policy: ReasoningPolicy = ReasoningPolicy.STRIP,
        return_prompt: bool = False,
        deadline: Deadline = NO_DEADLINE,
    ) -> CompareResult:
        """A, B or tie. Under ReasoningPolicy.APART reasoning is stripped: a preference has one subject."""
        work = Work(deadline, keep_prompts=return_prompt)
        result = CompareResult(Status.OK)
        try:
            check_comparison(comparison, self.scenarios, reasoning_policy)
            setting = await self._setting(comparison, work)
            result = replace(result, scenario=setting.scenario)
            found = await comparing.prefer(
                self.asker, comparison, setting.task, setting.reference, orders, reasoning_policy, work
            )
            result = replace(result, verdict=found)
        except ITEM_FAILURES as error:
            result = replace(result, **failure(error))
        return replace(result, usage=work.usage, tokenised_s=work.tokenised_s, prompts=tuple(work.shown))

    async def classify_one(self, messages: tuple[Message, ...], deadline: Deadline = NO_DEADLINE) -> Classification:
        """The conversation's scenario; recent conversations are remembered."""
        work = Work(deadline)
        try:
            check_messages(messages)
            found = await self._parts[1].classify(messages, work)
        except ITEM_FAILURES as error:
            found = Classification(**failure(error))
        return replace(found, usage=work.usage, tokenised_s=work.tokenised_s)

    async def difficulty_one(
        self,
        prompt: Item | tuple[Message, ...],
        answer: str,
        return_tokens: bool = False,
        deadline: Deadline = NO_DEADLINE,
    ) -> Difficulty:
        """Log-likelihoods of an answer after the judge's prompt for an item, or after a conversation under the
        model's chat template, and after the assistant's header alone."""
        work = Work(deadline)
        try:
            if not answer:
                raise InvalidItem("answer", "is empty; send the text whose likelihood is asked for")
            check_text(answer, "answer")
            asked = await self._difficulty_prompt(prompt, work)
            found = await difficulty.of_answer(self.asker, asked, answer, return_tokens, work)
        except ITEM_FAILURES as error:
            found = Difficulty(**failure(error))
        return replace(found, usage=work.usage, tokenised_s=work.tokenised_s)

    async def _difficulty_prompt(self, asked: Item | tuple[Message, ...], work: Work) -> Prompt:
        difficulty.require_tokenizer(self.asker)
        if isinstance(asked, tuple):
            check_messages(asked)
            return difficulty.chat_prompt(self.asker, asked)
        check_item(asked, self.scenarios)
        setting = await self._setting(asked, work)
        layout = prompts.single(setting.task, asked.messages, asked.response, setting.reference)
        return await difficulty.evaluation_prompt(self.asker, layout, work)

    async def _setting(self, item: Item | Comparison, work: Work, policy: Truncation = Truncation.REFUSE) -> _Setting:
        """The scenario, given or classified; its criteria or the item's own; the reference where it's used."""
        scenario, probability = item.scenario, None
        if not scenario:
            cut = policy if policy is Truncation.CONVERSATION_START else Truncation.REFUSE
            found = await self._parts[1].classify(item.messages, work, cut)
            scenario = found.scenario
            probability = max(found.probabilities, default=None)
        reference = item.reference if scenario in self._references else None
        return _Setting(self._task(scenario, item.rubric, reference is not None), scenario, probability, reference)

    def _task(self, scenario: str, rubric: Rubric | None, with_reference: bool) -> prompts.Task:
        known = self._tasks.get((scenario, with_reference))
        if known is None:
            found = self.scenarios[scenario]
            known = self._tasks[scenario, with_reference] = prompts.Task(
                name=found.name,
                definition=found.definition,
                rubric=Rubric(found.criteria),
                custom=False,
                paper_order=self.settings.data_order == "paper",
                reason_first=self.settings.verdict_order == "reason_first",
                with_reference=with_reference,
            )
        return known if rubric is None else replace(known, rubric=rubric, custom=True)

    def cost(self, item: Item | Comparison | tuple[Message, ...], options: Options | None = None) -> int:
        """An estimate of the tokens that an item puts to the engine: its texts by their length, and what the mode
        adds."""
        if isinstance(item, tuple):
            characters = _characters(item)
        elif isinstance(item, Item):
            characters = _characters(item.messages) + _characters(item.response.messages) + len(item.reference or "")
        else:
            answers = _characters(item.response_a.messages) + _characters(item.response_b.messages)
            characters = _characters(item.messages) + 2 * (answers + len(item.reference or ""))
        return characters // _CHARACTERS_PER_TOKEN + _PROMPT_TOKENS + (added_tokens(options.mode) if options else 0)


def _characters(messages: tuple[Message, ...]) -> int:
    return sum(len(difficulty.plain(part)) + 32 for message in messages for part in message.parts)
