from __future__ import annotations

import json

from tests.contract.descriptor import GOLDEN, contract


def test_the_contract_is_what_was_agreed() -> None:
    """Trainers of other releases speak it: renew the file only for a change that is meant (see descriptor.py)."""
    assert contract() == json.loads(GOLDEN.read_text())


def test_the_contract_is_not_read_past() -> None:
    """Guards the comparison itself: an empty reading would equal an empty file."""
    found = contract()
    assert found["messages"]["themis.v1.Item"]["messages"] == "3 repeated .themis.v1.Message"
    assert found["messages"]["themis.v1.Item"]["reference"] == "5 optional string"
    assert found["messages"]["themis.v1.Part"]["text"] == "1 oneof kind string"
    assert found["enums"]["themis.v1.ItemStatus"]["ITEM_STATUS_OK"] == "1"
    assert found["services"]["themis.v1.JudgeService"]["StreamScores"] == (
        "stream .themis.v1.StreamScoresRequest -> stream .themis.v1.StreamScoresResponse"
    )
