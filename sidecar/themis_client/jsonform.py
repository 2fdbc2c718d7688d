"""Results in the contract's JSON form: what another client, or a person with jq, can read."""

from __future__ import annotations

import dataclasses
from typing import Any

from google.protobuf import json_format

from themis_client.failure import Failure
from themis_client.results import Compared, Score
from themis_proto.v1 import judge_pb2 as pb

PREFERENCES = {"A": "PREFERENCE_A", "B": "PREFERENCE_B", "tie": "PREFERENCE_TIE"}
VERDICT_FIELDS = ("probability_a", "probability_b", "probability_tie", "order_disagreement", "label_mass")


def score_json(result: Score | Failure) -> str:
    """One line: a Result of the contract."""
    fields = _failure(result) if isinstance(result, Failure) else _plain(result) | _OK
    return _line(json_format.ParseDict(fields, pb.Result()))


def compare_json(result: Compared | Failure) -> str:
    """One line: a CompareResult of the contract."""
    if isinstance(result, Failure):
        fields = _failure(result)
        del fields["group"]
    else:
        fields = _plain(result) | _OK
        verdict = {name: fields.pop(name) for name in VERDICT_FIELDS if name in fields}
        fields["verdict"] = verdict | {"preference": PREFERENCES[fields.pop("preference")]}
    return _line(json_format.ParseDict(fields, pb.CompareResult()))


_OK = {"status": "ITEM_STATUS_OK"}


def _line(message: pb.Result | pb.CompareResult) -> str:
    # A score of 0.0 is printed: absent, it would look like a failure.
    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=None,
        ensure_ascii=False,
    )


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "key": _text(failure.key),
        "group": _text(failure.group),
        "status": failure.status.value,
        "error": _text(failure.error),
        "error_field": failure.field,
        "scenario": failure.scenario,
        "version": failure.version,
    }


def _text(text: str) -> str:
    # A key that could not be sent for its lone surrogates still names its line here.
    return text.encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: _plain(found) for name, found in fields if found is not None}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
