"""Which endpoint is asked, who may teach, and what settings are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.pipeline.llm_endpoint import answer, misbehaving
from tests.unit.pipeline.llm_parts import asked, near, put_together
from themis_judge.engines.base import NO_DEADLINE
from themis_pipeline.llm.calls import CallContext, CallKey, Message, Request
from themis_pipeline.llm.endpoints import Endpoint, Endpoints, RateLimit
from themis_pipeline.llm.errors import Refused, SameLineage, TryLater

URL = "http://near/v1"


def test_names_are_known_and_unique() -> None:
    with pytest.raises(Refused, match="'far'"):
        Endpoints([near(URL)])["far"]
    with pytest.raises(ValueError, match="same name"):
        Endpoints([near(URL), near(URL)])


@pytest.mark.parametrize(
    ("lineage", "judge"),
    [
        ((), {"themis"}),
        (("gpt",), ()),
        (("qwen2.5", "gpt"), {"Qwen2.5", "themis"}),
        (("gpt",), {"asked-model"}),
    ],
)
async def test_a_teacher_of_the_judges_lineage_is_never_asked(
    tmp_path: Path, lineage: tuple[str, ...], judge: set[str]
) -> None:
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url, lineage=lineage), lineage=judge) as parts:
            with pytest.raises(SameLineage):
                await parts.llm.complete(asked(role="teacher"), parts.context())
            assert server.calls == 0
            # As a generator of responses it may be asked.
            assert (await parts.llm.complete(asked(), parts.context())).text == "yes"


async def test_a_teacher_that_turns_out_to_be_the_judges_kin_is_not_used(tmp_path: Path) -> None:
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url), lineage={"served-model"}) as parts:
            for index in range(2):
                with pytest.raises(SameLineage) as raised:
                    await parts.llm.complete(asked(role="teacher"), parts.context(index=index))
                # It is no fault of the input, and waiting doesn't mend it.
                assert not isinstance(raised.value, Refused | TryLater)
    assert server.calls == 1


async def test_another_family_teaches(tmp_path: Path) -> None:
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url), lineage={"themis", "qwen2.5"}) as parts:
            assert (await parts.llm.complete(asked(role="teacher"), parts.context())).text == "yes"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Near"},
        {"name": "a/b"},
        {"name": ""},
        {"base_url": "near/v1"},
        {"base_url": "ftp://near"},
        {"base_url": "http://me:secret@near"},
        {"base_url": "http://near?key=secret"},
        {"api_key": "two words"},
        {"api_key": ""},
        {"concurrency": 0},
        {"waiting": -1},
        {"attempts": 0},
        {"timeout_s": 0.0},
        {"timeout_s": float("inf")},
        {"prompt_price": float("nan")},
        {"completion_price": -1.0},
        {"open_s": 0.0},
        {"max_wait_s": -1.0},
        {"extra_body": {"n": 4}},
    ],
)
def test_settings_that_can_not_work_are_refused_without_their_secrets(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"name": "near", "base_url": URL, "model": "m"}
    assert Endpoint(**right).name == "near"
    with pytest.raises(ValueError, match=r".") as raised:
        Endpoint(**{**right, **wrong})
    assert "secret" not in str(raised.value)
    assert "two words" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong", [{"requests_per_minute": 5}, {"tokens_per_minute": 0}, {"window_s": 0.5}, {"window_s": 61}, {"slices": 0}]
)
def test_limits_that_can_not_work_are_refused(wrong: dict[str, Any]) -> None:
    assert RateLimit(requests_per_minute=6, tokens_per_minute=6).in_window() == (1, 1)
    with pytest.raises(ValueError, match=r"."):
        RateLimit(**wrong)


def test_the_most_a_call_can_cost_covers_one_token_a_byte() -> None:
    endpoint = near(URL, prompt_price=0.5, completion_price=3.0)
    request = asked("ä" * 50, max_tokens=7)
    assert endpoint.most_micros(request) == (100 + 32) // 2 + 21
    assert endpoint.cost_micros(1, 0) == 1  # rounded up


def test_the_most_a_call_can_cost_covers_what_stands_in_extra_fields() -> None:
    schema = {"response_format": {"type": "json_schema", "schema": {"description": "x" * 5000}}}
    plain, own = near(URL), near(URL, extra_body=schema)
    assert plain.most_micros(asked(extra=schema)) - plain.most_micros(asked()) > 5000
    assert own.most_micros(asked()) - plain.most_micros(asked()) > 5000
    assert own.likely_tokens(asked()) > plain.likely_tokens(asked())


@pytest.mark.parametrize(
    "wrong",
    [
        {"extra": {"max_tokens": 9000}},
        {"extra": {"stream": True}},
        {"max_tokens": 0},
        {"messages": ()},
        {"text": "\ud800"},
    ],
)
def test_requests_that_would_not_be_accounted_for_are_refused(wrong: dict[str, Any]) -> None:
    more = {"messages": (Message("user", wrong.pop("text", "yes")),), "max_tokens": 5, **wrong}
    with pytest.raises(ValueError, match=r"."):
        Request("near", **more)


def test_a_call_without_a_deadline_is_refused() -> None:
    with pytest.raises(ValueError, match="deadline"):
        CallContext(CallKey("input-1", "label", 0), NO_DEADLINE)
