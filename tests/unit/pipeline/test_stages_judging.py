"""What a call's failure at the sidecar means to the record that it was made for."""

from __future__ import annotations

import pytest

from themis_client import (
    DeadlineExceeded,
    InvalidItem,
    MessageTooLarge,
    Overloaded,
    ProtocolError,
    Refused,
    Score,
    ServerFailed,
    ThemisError,
    Unavailable,
    UnknownVersion,
    Unsupported,
)
from themis_client.results import Results
from themis_pipeline.runner.stage import Reject, Retry
from themis_pipeline.stages.judging import only

ABOUT_THE_SERVER = (
    DeadlineExceeded,
    Overloaded,
    ProtocolError,
    Refused,
    ServerFailed,
    Unavailable,
    UnknownVersion,
    Unsupported,
)


async def fails(error: ThemisError) -> Results[Score]:
    raise error


@pytest.mark.parametrize("kind", ABOUT_THE_SERVER)
async def test_a_server_that_can_not_be_asked_is_no_fault_of_the_record(kind: type[ThemisError]) -> None:
    """A token that changed on one side first would else make dead letters of all that comes."""
    with pytest.raises(Retry) as later:
        await only(fails(kind("quotes a prompt")))
    assert later.value.code == kind.__name__
    assert "prompt" not in str(later.value)


@pytest.mark.parametrize("error", [InvalidItem("messages", "quotes a prompt"), MessageTooLarge("quotes a prompt")])
async def test_what_the_record_itself_is_to_blame_for_stays_so(error: ThemisError) -> None:
    with pytest.raises(Reject) as refused:
        await only(fails(error))
    assert refused.value.code == type(error).__name__
    assert "prompt" not in str(refused.value)
