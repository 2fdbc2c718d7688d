"""The archive's columns, and how files of older and newer software are read.

The schema only grows. A column is never renamed, never changes its type or meaning, and is never used again for
something else; a new one may be absent (null) and raises VERSION. So older files are read by newer software, which
fills in nulls, and newer files by older software, which leaves out what it doesn't know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from themis_pipeline.archive.errors import CorruptArchive

VERSION = 1

TEXT, WHOLE, REAL = pa.string(), pa.int64(), pa.float64()
TURN = pa.struct([("role", TEXT), ("text", TEXT)])
POINT = pa.struct([("criterion", TEXT), ("kind", TEXT), ("text", TEXT), ("rating", WHOLE), ("candidate", TEXT)])


@dataclass(frozen=True, slots=True)
class Column:
    """since: the version that brought it. A column that may be absent is null where there is nothing to say."""

    name: str
    type: Any
    meaning: str
    may_be_absent: bool = False
    since: int = 1


COLUMNS: tuple[Column, ...] = (
    Column("id", TEXT, "the judgement's id, derived from the candidates' ids, the mode and the order"),
    Column("scenario", TEXT, "the scenario's id"),
    Column("mode", TEXT, "what the label is about: single, reference (one response beside a reference), pairwise"),
    Column("labeller", TEXT, "who labelled: teacher, people, construction"),
    Column("rating", WHOLE, "the overall rating on the scale; absent for a pair", may_be_absent=True),
    Column("preference", TEXT, "the better response as shown: a, b, tie; absent for one response", may_be_absent=True),
    Column("scale_min", WHOLE, "the scale's lowest rating"),
    Column("scale_max", WHOLE, "the scale's highest rating"),
    Column("pair", TEXT, "both orders of a pair share it; absent for one response", may_be_absent=True),
    Column("swapped", pa.bool_(), "whether the two stand in the other order than in their set"),
    Column("instruction", TEXT, "the instruction's id; responses to one instruction share it"),
    Column("instruction_origin", TEXT, "who made the instruction: people, question (about a text), quiz"),
    Column("made_from", TEXT, "the id of the prompt or plan that it was made from; siblings share it"),
    Column("scenario_basis", TEXT, "how the scenario came to be known: given, classified, constructed"),
    Column("scenario_probability", REAL, "the classifier's; absent where nobody classified", may_be_absent=True),
    Column("messages", pa.list_(TURN), "the conversation up to the turn to answer, as text"),
    Column("candidates", pa.list_(TEXT), "the responses' ids, in the order shown"),
    Column("responses", pa.list_(TEXT), "the responses as text, in the order shown"),
    Column("response_generators", pa.list_(TEXT), "endpoint/model of each response; empty where people wrote it"),
    Column("response_lineages", pa.list_(TEXT), "the model family of each; empty where people wrote it"),
    Column("response_methods", pa.list_(TEXT), "how each was made: answered, sibling, corrupted_fact, ..."),
    Column("response_made_from", pa.list_(TEXT), "the id of the response that each was altered from; empty: of none"),
    Column("response_length_changes", pa.list_(TEXT), "what was done to each one's length: none, padded, shortened"),
    Column("reference", TEXT, "a correct or good answer", may_be_absent=True),
    Column("language", TEXT, "the instruction's language as a BCP 47 tag", may_be_absent=True),
    Column("prompt", TEXT, "the evaluation prompt that the labeller was shown; empty where there was none"),
    Column("critique", TEXT, "the evaluation as it was written; empty where nobody wrote one"),
    Column("points", pa.list_(POINT), "the critique's points, tied to criterion ids where they are known"),
    Column("known", TEXT, "the better one, a or b, where it is known by construction", may_be_absent=True),
    Column("annotators", WHOLE, "labels by people that went into this one; 0 where it isn't theirs"),
    Column("agreement", REAL, "the share of those that agree with it", may_be_absent=True),
    Column("source", TEXT, "who fed it: what caps are counted by"),
    Column("source_id", TEXT, "the source's own id of the input", may_be_absent=True),
    Column("licence", TEXT, "the licence in the source's own words", may_be_absent=True),
    Column("generator", TEXT, "endpoint/model that wrote the instruction; absent: people", may_be_absent=True),
    Column("generator_lineage", TEXT, "its model family", may_be_absent=True),
    Column("teacher", TEXT, "endpoint/model that labelled; absent: people or construction", may_be_absent=True),
    Column("teacher_lineage", TEXT, "its model family", may_be_absent=True),
    Column("judge_lineage", TEXT, "the family of the judge that the record is meant for", may_be_absent=True),
    Column("classifier_version", TEXT, "the judge version that said the scenario", may_be_absent=True),
    Column("template_digest", TEXT, "of the template by which the instruction was asked for", may_be_absent=True),
    Column("scorer", TEXT, "the frozen model that the difficulty is of; absent: not scored", may_be_absent=True),
    Column(
        "log_perplexity_ratio", REAL, "difficulty: mean loss with the prompt less without, nats", may_be_absent=True
    ),
    Column("mean_loss_ratio", REAL, "difficulty: mean loss with the prompt by that without", may_be_absent=True),
    Column("loss_with_prompt", REAL, "mean loss with the prompt, nats per token", may_be_absent=True),
    Column("loss_alone", REAL, "mean loss without it, over the same tokens", may_be_absent=True),
    Column("scored_tokens", WHOLE, "how many tokens of the critique the difficulty is over", may_be_absent=True),
    Column("at", pa.timestamp("us", tz="UTC"), "when the input came in"),
    Column("topic", TEXT, "where the record was read from: its topic,"),
    Column("partition", WHOLE, "its partition there,"),
    Column("offset", WHOLE, "and its offset there"),
    Column("event", pa.binary(), "the whole event (themis.v1.Scored), with fields that this software doesn't know"),
)


def arrow_schema(columns: Sequence[Column] = COLUMNS, version: int = VERSION) -> Any:
    """The meanings travel in each file, as metadata of its fields."""
    fields = [pa.field(entry.name, entry.type, entry.may_be_absent, {"meaning": entry.meaning}) for entry in columns]
    return pa.schema(fields, {"themis_schema": str(version)})


def conform(table: Any, where: str, columns: Sequence[Column] = COLUMNS) -> Any:
    """A table of any version as one with exactly these columns. Raises CorruptArchive where a column is missing that
    may not be, or has another type."""
    found = [_column(table, entry, where) for entry in columns]
    return pa.Table.from_arrays(found, schema=arrow_schema(columns))


def _column(table: Any, column: Column, where: str) -> Any:
    if column.name not in table.schema.names:
        if not column.may_be_absent:
            raise CorruptArchive(f"{where}: has no column {column.name}")
        return pa.nulls(table.num_rows, column.type)
    found = table.column(column.name)
    if not found.type.equals(column.type):
        raise CorruptArchive(f"{where}: column {column.name} is of type {found.type}, not {column.type}")
    if found.null_count and not column.may_be_absent:
        raise CorruptArchive(f"{where}: column {column.name} has nulls")
    return found
