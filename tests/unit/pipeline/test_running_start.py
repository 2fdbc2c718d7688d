"""What is looked at before stages start, and how each is put together from the settings."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from themis_judge.scenarios import load_scenarios
from themis_pipeline.__main__ import main
from themis_pipeline.config import EndpointConfig, LLMConfig, PipelineConfig, TopicsConfig
from themis_pipeline.llm.errors import SameLineage
from themis_pipeline.running import making
from themis_pipeline.running.launching import UnknownStages, chosen
from themis_pipeline.running.logs import make_logger
from themis_pipeline.running.parts import DropCounter, Need, Parts, open_parts
from themis_pipeline.running.registry import KINDS
from themis_pipeline.running.starting import TopicsMissing, check_topics, topics_of
from themis_pipeline.stages.errors import BadSetting
from themis_pipeline.topics import STAGES, Topic

CONFIG = TopicsConfig(prefix="mine-", replication=1, min_isr=1)


@dataclass
class Standing:
    partitions: int
    replication: int
    settings: Mapping[str, str]


@dataclass
class Cluster:
    """As `topics create` leaves it, but for what a test takes away."""

    topics: dict[str, Standing]
    missing: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def find(self, names: Sequence[str]) -> Mapping[str, Standing]:
        return {name: self.topics[name] for name in names if name in self.topics}

    def create(self, name: str, partitions: int, replication: int, settings: Mapping[str, str]) -> None:
        raise AssertionError("nothing is made here")

    def uncommitted(self, group: str, topic: str, partitions: int) -> Sequence[int]:
        return self.missing.get((group, topic), [])

    def holds_records(self, topic: str, partitions: int) -> bool:
        raise AssertionError("nothing is made here")

    def commit_starts(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        raise AssertionError("nothing is made here")


def touched(stage: str) -> list[Topic]:
    return topics_of(stage, KINDS[stage], CONFIG)


def cluster(topics: Sequence[Topic]) -> Cluster:
    return Cluster({one.name: Standing(one.partitions, one.replication, one.settings) for one in topics})


def test_a_stage_touches_what_it_reads_and_writes_and_its_own_retries_and_letters() -> None:
    assert {topic.name for topic in touched("classify")} == {
        "mine-new-prompts",
        "mine-classify-retry",
        "mine-classify-dead",
        "mine-classified-prompts",
    }
    made = cluster(touched("classify"))
    assert check_topics(made, touched("classify"), ["classify"], "mine-") == []


@pytest.mark.parametrize("name", ["mine-new-prompts", "mine-classify-dead", "mine-classified-prompts"])
def test_a_topic_that_is_missing_is_named_with_the_remedy(name: str) -> None:
    made = cluster(touched("classify"))
    del made.topics[name]
    with pytest.raises(TopicsMissing, match=rf"{name}.*topics create"):
        check_topics(made, touched("classify"), ["classify"], "mine-")


def test_an_offset_that_is_missing_is_named_with_the_remedy() -> None:
    made = cluster(touched("classify"))
    made.missing["mine-classify", "mine-new-prompts"] = [3, 4]
    with pytest.raises(TopicsMissing, match=r"mine-classify .*mine-new-prompts 3, 4.*topics create"):
        check_topics(made, touched("classify"), ["classify"], "mine-")


def test_offsets_of_stages_that_run_elsewhere_are_their_business() -> None:
    made = cluster(touched("classify"))
    made.missing["mine-gate", "mine-classified-prompts"] = [0]
    assert check_topics(made, touched("classify"), ["classify"], "mine-") == []


def test_what_differs_otherwise_is_told_and_stops_nothing() -> None:
    made = cluster(touched("classify"))
    made.topics["mine-new-prompts"].partitions += 1
    assert [one.what for one in check_topics(made, touched("classify"), ["classify"], "mine-")] == ["partitions"]


def test_stages_by_name() -> None:
    assert chosen(["label", "plan", "label"]) == ["plan", "label"]
    assert chosen(["all"]) == list(STAGES)
    with pytest.raises(UnknownStages, match=r"nothing, or-that; there are classify, .*, and all"):
        chosen(["plan", "nothing", "or-that"])


def test_an_unknown_stage_is_a_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nothing"]) == 2
    assert "no stage is called nothing; there are classify" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ making

ENDPOINTS = tuple(
    EndpointConfig(name=name, base_url="http://localhost:1/v1", model=f"{name}-7b", lineage=(name,), weight=weight)
    for name, weight in (("one", 1), ("two", 2), ("big", 0))
)


def config(tmp_path: Path, **sections: Any) -> PipelineConfig:
    told: dict[str, Any] = {
        "llm": LLMConfig(endpoints=ENDPOINTS, store_url=str(tmp_path / "llm")),
        "sidecar": {"target": "localhost:1"},
        "judge": {"lineage": ["themis"]},
        "label": {"teacher": "big"},
        "difficulty": {"scorer": "v1"},
        **sections,
    }
    return PipelineConfig(**told)


async def make(name: str, told: PipelineConfig) -> Any:
    logger = make_logger(told.log, io.StringIO())
    async with open_parts(told, KINDS[name].needs, CollectorRegistry(), logger) as parts:
        return KINDS[name].handler(parts)


@pytest.mark.parametrize("name", list(KINDS))
async def test_every_stage_is_made_from_what_it_says_it_needs(name: str, tmp_path: Path) -> None:
    await make(name, config(tmp_path))


@pytest.mark.parametrize(
    ("name", "sections", "told"),
    [
        ("question", {"question": {"writer": "three"}}, r"question\.writer: .*three.*one, two, big"),
        ("question", {"llm": LLMConfig()}, r"llm\.endpoints|llm\.store_url"),
        ("respond", {"respond": {"models": ["one", "one"]}}, "twice"),
        ("respond", {"respond": {"min_responses": 6}}, "min_responses"),
        ("annotate", {"judge": {}}, r"judge\.lineage"),
        ("label", {"label": {}}, r"label\.teacher"),
        ("label", {"judge": {}}, r"judge\.lineage"),
        ("difficulty", {"difficulty": {}}, r"difficulty\.scorer"),
        ("classify", {"sidecar": {}}, r"sidecar\.target"),
        ("plan", {"plan": {"shares": {"poetry": 1}}}, "poetry"),
    ],
)
async def test_a_setting_that_is_missing_or_wrong_is_named(
    name: str, sections: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises((BadSetting, ValueError), match=told):
        await make(name, config(tmp_path, **sections))


async def test_a_teacher_of_the_judges_lineage_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SameLineage, match="big"):
        await make("label", config(tmp_path, judge={"lineage": ["themis", "big"]}))


async def test_plans_are_of_all_scenarios_unless_shares_say_otherwise(tmp_path: Path) -> None:
    told = config(tmp_path)
    parts = Parts(told, load_scenarios(), DropCounter(CollectorRegistry()), code=None)
    assert set(making.plan(parts).planner.settings.shares.values()) == {5}
    assert len(making.plan(parts).planner.settings.shares) == 10


async def test_a_detector_is_handed_to_the_gates(tmp_path: Path) -> None:
    logger = make_logger(config(tmp_path).log, io.StringIO())
    async with open_parts(config(tmp_path), {Need.GATES}, CollectorRegistry(), logger) as parts:
        found = parts.gates.detect("Der schnelle braune Fuchs springt über den faulen Hund.")
    assert (found.language, found.confidence > 0.9) == ("de", True)


def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THEMIS_PIPELINE_SIDECAR__TOKEN", "hush\nhush")
    assert main(["run", "classify"]) == 2
    told = capsys.readouterr()
    assert "sidecar.token" in told.err
    assert "hush" not in told.err + told.out
