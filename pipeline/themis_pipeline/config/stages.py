"""What stages make, a section a stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from themis_pipeline.config.section import Section

ShareOf: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class SamplingConfig(Section):
    """How a model is asked."""

    max_tokens: PositiveInt = 2048
    """The most tokens of an answer."""
    temperature: NonNegativeFloat = 0.7
    """Of the first try."""
    retry_temperature: NonNegativeFloat = 0.7
    """Of every further try: an answer at temperature 0 would come again as it was."""
    tries: Annotated[int, Field(ge=1, le=100)] = 3
    """How often an answer is asked for until it can be read."""


class DataConfig(Section):
    """Data files in place of those that come with the pipeline."""

    scenario_dirs: tuple[Path, ...] = ()
    """Folders with further scenarios, as the sidecar takes them."""
    questioning_dir: Path | None = None
    """A YAML file for each scenario that is questioned by reference."""
    quizzing_dir: Path | None = None
    """A YAML file for each scenario that has quizzes."""
    suffixes_file: Path | None = None
    """Sentences that speak to a judge."""
    fillers_file: Path | None = None
    """Sentences that say nothing."""
    opposites_file: Path | None = None
    """Pairs of words with opposite meanings."""


class SourcesConfig(Section):
    """How much is taken of what each source feeds; the same inputs whenever they come."""

    shares: Mapping[str, ShareOf] = Field(default_factory=dict)
    """Shares by source, within 0 and 1."""
    others: ShareOf = 1.0
    """Of sources that aren't named."""
    seed: int = 0
    """With another one, another part is taken. Who knows it can choose ids that are."""


class PlanConfig(Section):
    """The stage `plan`."""

    seed: int = 0
    """Of all plans; another one gives other plans from the same texts."""
    shares: Mapping[str, NonNegativeInt] = Field(default_factory=dict)
    """Instructions of each scenario that one reference text is to give; default: 5 of each scenario that has data."""
    instructions_per_call: Literal[1, 5] = 5
    """Instructions that are asked for at a time, for questioning."""
    sources: SourcesConfig = SourcesConfig()


class WriterConfig(Section):
    """A stage whose instructions one model writes."""

    writer: str | None = None
    """The endpoint's name; default: the first one with a weight."""
    sampling: SamplingConfig = SamplingConfig()


class GateConfig(Section):
    """Which instructions are kept: models' and people's; and how much of what people feed."""

    languages: tuple[str, ...] = ("en",)
    """Two-letter codes of the languages that are kept; empty keeps all."""
    min_confidence: float = Field(default=0.8, ge=0, le=1)
    """How sure a detection must be for an instruction to be dropped by it."""
    min_chars: NonNegativeInt = 12
    """The fewest characters."""
    max_chars: PositiveInt = 8000
    """The most."""
    sources: SourcesConfig = SourcesConfig()


class CodeConfig(Section):
    """How models' code is run. Limits are no wall against malice: give such stages a container without a network and
    without secrets."""

    run: bool = True
    """Whether it is run at all; without, programming tasks go on without tests."""
    at_once: PositiveInt = 2
    """Runs at a time, over all stages of the process."""
    wall_s: PositiveFloat = 10.0
    """The longest one run may take."""
    cpu_s: PositiveInt = 5
    """The most computing in it."""
    memory_bytes: PositiveInt = 512 * 1024 * 1024
    """The most memory."""


class RespondConfig(Section):
    """The stage `respond`."""

    models: tuple[str, ...] = ()
    """Names of the endpoints that answer, by their weights; default: all with a weight."""
    responses: PositiveInt = 5
    """How many answers an instruction gets; with fewer models than that, some answer more than once."""
    min_responses: PositiveInt = 2
    """With fewer answers an instruction is given up."""
    sampling: SamplingConfig = SamplingConfig(tries=1)


class LabelConfig(Section):
    """The stage `label`."""

    teacher: str | None = None
    """The name of the endpoint that labels; it must state a lineage, and none of the judge's."""
    pairs: NonNegativeInt = 1
    """How many pairs of an instruction's answers are compared, in both orders."""
    max_points: PositiveInt = 3
    """The most points of each kind in a critique."""
    max_point_chars: PositiveInt = 240
    """The most characters of a point."""
    reason_first: bool = False
    """Whether reasons come before the rating, as the judge that learns from it will write."""
    paper_order: bool = False
    """Whether the prompt has the paper's order, as the judge that learns from it will be asked."""
    sampling: SamplingConfig = SamplingConfig(temperature=0.0)


class AnnotateConfig(Section):
    """What people label."""

    share: ShareOf = 0.0
    """Of instructions whose answers people get to see as well as the teacher."""
    annotators: PositiveInt = 3
    """How many of them label each."""


class DifficultyConfig(Section):
    """The stage `difficulty`."""

    scorer: str | None = None
    """The id of the judge version that scores, for good: scores of different ones don't mix."""
