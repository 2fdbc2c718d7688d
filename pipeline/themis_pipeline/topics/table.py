"""The table of topics: what travels where, by what key, how long it is kept, and whose group reads it.

A topic is read by one stage's group alone: what a stage replays reaches nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydantic_settings import SettingsError

from themis_pipeline.config import TopicsConfig
from themis_pipeline.topics.topic import FRAME_BYTES, Topic
from themis_proto.v1 import events_pb2 as ev

DAY_S = 24 * 3600
KIB, MIB = 1024, 1024 * 1024

# Longer than any outage that is let pass: a stage that comes back later has lost what was deleted meanwhile.
KEPT_S = 14 * DAY_S
DEAD_KEPT_S = 90 * DAY_S

# Broker's limits of what people feed are above what its readers take, so that an oversize record becomes a dead
# letter that can be looked at, up to a point, and not just an error at its producer.
NEW_PROMPTS = Topic(
    "new-prompts", (ev.NewPrompt,), None, "classify", 12, KEPT_S, MIB, feeds_json=True, max_message_bytes=4 * MIB
)
REFERENCE_TEXTS = Topic(
    "reference-texts", (ev.ReferenceText,), None, "plan", 6, KEPT_S, MIB, feeds_json=True, max_message_bytes=4 * MIB
)
CLASSIFIED_PROMPTS = Topic("classified-prompts", (ev.ClassifiedPrompt,), "id", "gate", 12, KEPT_S, 2 * MIB)
QUESTION_PLANS = Topic("question-plans", (ev.Plan,), "id", "question", 12, KEPT_S, 2 * MIB)
QUIZ_PLANS = Topic("quiz-plans", (ev.Plan,), "id", "quiz", 12, KEPT_S, 2 * MIB)
INSTRUCTIONS = Topic("instructions", (ev.Instruction,), "made_from", "respond", 12, KEPT_S, 4 * MIB)
RESPONSE_SETS = Topic("response-sets", (ev.ResponseSet,), "instruction.id", "label", 12, KEPT_S, 8 * MIB)
ANNOTATION_TASKS = Topic("annotation-tasks", (ev.AnnotationTask,), "id", None, 3, DEAD_KEPT_S, 8 * MIB)
ANNOTATION_LABELS = Topic(
    "annotation-labels", (ev.AnnotationLabel,), "task", "annotate", 3, None, 256 * KIB,
    feeds_json=True, max_message_bytes=MIB,
)  # fmt: skip
LABELLED = Topic("labelled", (ev.Labelled,), "instruction.id", "difficulty", 12, KEPT_S, 8 * MIB)
SCORED = Topic("scored", (ev.Scored,), "labelled.instruction.id", "archive", 12, KEPT_S, 8 * MIB)

EVENTS: tuple[Topic, ...] = (
    NEW_PROMPTS,
    REFERENCE_TEXTS,
    CLASSIFIED_PROMPTS,
    QUESTION_PLANS,
    QUIZ_PLANS,
    INSTRUCTIONS,
    RESPONSE_SETS,
    ANNOTATION_TASKS,
    ANNOTATION_LABELS,
    LABELLED,
    SCORED,
)

_NAMES = dict.fromkeys(topic.stage for topic in EVENTS if topic.stage is not None)

STAGES: Mapping[str, tuple[Topic, ...]] = MappingProxyType(
    {name: tuple(topic for topic in EVENTS if topic.stage == name) for name in _NAMES}
)
"""What each stage reads, its retries aside."""


def retry_topic(stage: str) -> Topic:
    """Where records of a stage wait to be handled again. Keyed as the record was; raises KeyError for no stage."""
    read = STAGES[stage]
    return Topic(
        f"{stage}-retry",
        tuple(dict.fromkeys(event for topic in read for event in topic.events)),
        None,
        stage,
        min(6, max(topic.partitions for topic in read)),
        KEPT_S,
        max(topic.max_event_bytes for topic in read),
        feeds_json=any(topic.feeds_json for topic in read),
        max_message_bytes=max(topic.max_message_bytes for topic in read) + FRAME_BYTES,
    )


def dead_letter_topic(stage: str) -> Topic:
    """Where a stage gives records up. A dead letter holds its record whole, so its limit is above all that the stage
    can be sent. Raises KeyError for no stage."""
    limit = retry_topic(stage).max_message_bytes + FRAME_BYTES
    return Topic(f"{stage}-dead", (ev.DeadLetter, ev.DeadLetterReplayed), "id", None, 3, DEAD_KEPT_S, limit)


TABLE: tuple[Topic, ...] = (*EVENTS, *map(retry_topic, STAGES), *map(dead_letter_topic, STAGES))
"""Every topic of the pipeline."""


def placed_table(config: TopicsConfig) -> list[Topic]:
    """The table as it stands on a cluster. Raises SettingsError where the settings name a topic that isn't in it."""
    unknown = sorted(config.partitions.keys() - {topic.name for topic in TABLE})
    if unknown:
        raise SettingsError(f"topics.partitions: no topic is called {', '.join(unknown)}")
    return [topic.placed(config) for topic in TABLE]
