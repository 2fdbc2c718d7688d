"""The topics: one table, and what makes and checks them by it."""

from themis_pipeline.topics.table import (
    ANNOTATION_LABELS,
    ANNOTATION_TASKS,
    CLASSIFIED_PROMPTS,
    INSTRUCTIONS,
    LABELLED,
    NEW_PROMPTS,
    QUESTION_PLANS,
    QUIZ_PLANS,
    REFERENCE_TEXTS,
    RESPONSE_SETS,
    SCORED,
    STAGES,
    TABLE,
    dead_letter_topic,
    placed_table,
    retry_topic,
)
from themis_pipeline.topics.topic import Topic

__all__ = [
    "ANNOTATION_LABELS",
    "ANNOTATION_TASKS",
    "CLASSIFIED_PROMPTS",
    "INSTRUCTIONS",
    "LABELLED",
    "NEW_PROMPTS",
    "QUESTION_PLANS",
    "QUIZ_PLANS",
    "REFERENCE_TEXTS",
    "RESPONSE_SETS",
    "SCORED",
    "STAGES",
    "TABLE",
    "Topic",
    "dead_letter_topic",
    "placed_table",
    "retry_topic",
]
