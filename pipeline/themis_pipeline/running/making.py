"""Each stage's handler, put together from the settings and the parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from themis_judge.scenarios import Scenario
from themis_pipeline.annotation.command import placed
from themis_pipeline.annotation.shelf import TopicShelf
from themis_pipeline.config import (
    EndpointConfig,
    LLMConfig,
    PipelineConfig,
    SamplingConfig,
    SourcesConfig,
    WriterConfig,
)
from themis_pipeline.kafka.tools import open_reader
from themis_pipeline.llm.calls import Role
from themis_pipeline.running.parts import Parts, endpoint, judge_family, teacher
from themis_pipeline.stages import values
from themis_pipeline.stages.altering import Altering
from themis_pipeline.stages.annotate import Annotate
from themis_pipeline.stages.asking import Asker, Model, Sampling
from themis_pipeline.stages.classify import Classify
from themis_pipeline.stages.difficulty import Difficulty
from themis_pipeline.stages.errors import BadSetting
from themis_pipeline.stages.evaluation import Form
from themis_pipeline.stages.gate import Gate
from themis_pipeline.stages.label import Label
from themis_pipeline.stages.plan import Plan, Planner, PlanSettings
from themis_pipeline.stages.question import Question
from themis_pipeline.stages.quiz import Quizzes
from themis_pipeline.stages.respond import Respond
from themis_pipeline.stages.sources import SourceShares
from themis_pipeline.stages.tasks import Tasks
from themis_pipeline.stages.values import Questioning, Quizzing

T = TypeVar("T")

INSTRUCTIONS_PER_TEXT = 5


def classify(parts: Parts) -> Classify:
    return Classify(parts.client, frozenset(parts.scenarios))


def plan(parts: Parts) -> Plan:
    config, questioning, quizzing = parts.config.plan, _questioning(parts), _quizzing(parts)
    shares = dict(config.shares) or dict.fromkeys([*questioning, *quizzing], INSTRUCTIONS_PER_TEXT)
    planner = Planner(PlanSettings(config.seed, shares, config.instructions_per_call), questioning, quizzing)
    return Plan(planner, _sources(config.sources), parts.dropped)


def gate(parts: Parts) -> Gate:
    return Gate(parts.gates, _sources(parts.config.gate.sources), parts.dropped)


def question(parts: Parts) -> Question:
    writer = _writer("question", parts.config.question, parts.config.llm)
    asker = _asker(parts, "question", parts.config.question.sampling)
    return Question(parts.scenarios, _questioning(parts), asker, writer, parts.gates, parts.dropped)


def quiz(parts: Parts) -> Quizzes:
    _quizzing(parts)  # so that a bad file is told of here as well
    writer = _writer("quiz", parts.config.quiz, parts.config.llm)
    asker = _asker(parts, "quiz", parts.config.quiz.sampling)
    return Quizzes(parts.scenarios, asker, writer, parts.gates, parts.code, parts.dropped)


def respond(parts: Parts) -> Respond:
    config = parts.config.respond
    data = parts.config.data
    altering = Altering(
        {scenario.id for scenario in parts.scenarios.values() if scenario.reference},
        values.load_opposites(*_given(data.opposites_file)),
        values.load_suffixes(*_given(data.suffixes_file)),
        values.load_fillers(*_given(data.fillers_file)),
        parts.code,
    )
    asker = _asker(parts, "respond", config.sampling)
    models = _responders(parts.config)
    return Respond(asker, models, altering, parts.dropped, config.responses, config.min_responses)


def label(parts: Parts) -> Label:
    config = parts.config.label
    return Label(
        parts.scenarios,
        _asker(parts, "label", config.sampling, role="teacher"),
        _as_model(teacher(parts.config)),
        judge_family(parts.config),
        Form(config.max_points, config.max_point_chars, config.reason_first, config.paper_order),
        Tasks(parts.config.annotate.share, parts.config.annotate.annotators),
        parts.dropped,
        config.pairs,
    )


def annotate(parts: Parts) -> Annotate:
    """Reads the topics of tasks and labels by itself, beside the stage's own consumer."""
    kafka, topics = parts.config.kafka, placed(parts.config.topics)
    return Annotate(TopicShelf(lambda: open_reader(kafka), topics), judge_family(parts.config), parts.dropped)


def difficulty(parts: Parts) -> Difficulty:
    scorer = parts.config.difficulty.scorer
    if scorer is None:
        raise BadSetting("difficulty.scorer: name the judge version that scores, for good")
    return Difficulty(parts.client, scorer)


def _sources(config: SourcesConfig) -> SourceShares:
    return SourceShares(config.shares, config.others, config.seed)


def _writer(stage: str, config: WriterConfig, llm: LLMConfig) -> Model:
    if config.writer is not None:
        return _as_model(endpoint(f"{stage}.writer", config.writer, llm))
    return _weighted(llm)[0]


def _responders(config: PipelineConfig) -> Sequence[Model]:
    named = config.respond.models
    models = (
        [_as_model(endpoint("respond.models", name, config.llm)) for name in named] if named else _weighted(config.llm)
    )
    if len({model.endpoint for model in models}) < len(models):
        raise BadSetting("respond.models: an endpoint stands there twice")
    return models


def _weighted(llm: LLMConfig) -> list[Model]:
    found = [_as_model(one) for one in llm.endpoints if one.weight > 0]
    if not found:
        raise BadSetting("llm.endpoints: a stage that runs asks LLMs; name one with a weight")
    return found


def _as_model(one: EndpointConfig) -> Model:
    return Model(one.name, one.model, one.lineage[0] if one.lineage else "", one.weight)


def _asker(parts: Parts, stage: str, config: SamplingConfig, role: Role = "generator") -> Asker:
    sampling = Sampling(config.max_tokens, config.temperature, config.retry_temperature, config.tries)
    return Asker(parts.llm, stage, sampling, role)


def _questioning(parts: Parts) -> Mapping[str, Questioning]:
    return _known(values.load_questioning(*_given(parts.config.data.questioning_dir)), parts.scenarios)


def _quizzing(parts: Parts) -> Mapping[str, Quizzing]:
    return _known(values.load_quizzing(*_given(parts.config.data.quizzing_dir)), parts.scenarios)


def _known(found: Mapping[str, T], scenarios: Mapping[str, Scenario]) -> Mapping[str, T]:
    unknown = sorted(set(found) - set(scenarios))
    if unknown:
        raise BadSetting(f"data: has the scenarios {', '.join(unknown)}, which data.scenario_dirs doesn't")
    return found


def _given(path: Path | None) -> tuple[Path, ...]:
    """As the argument that it replaces."""
    return () if path is None else (path,)
