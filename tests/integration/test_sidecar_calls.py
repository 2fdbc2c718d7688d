"""Calls to a real server around a fake judge: what is right comes back, and each fault has one clear outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from tests.integration.sidecar_fakes import VERSION, FakeJudge, detail, item, serving, statuses
from themis_judge.items import ReasoningPolicy, Truncation
from themis_proto.v1 import judge_pb2 as pb

CANARY = "canary-5f1e"


async def fails(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def violation(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    [found] = detail(error, error_details_pb2.BadRequest).field_violations
    return found.field, found.description


async def test_score_answers_in_request_order_with_everything_set() -> None:
    async with serving(FakeJudge()) as served:
        request = pb.ScoreRequest(
            items=[item("a", group="g"), item("invalid"), item("b")], options=pb.ScoreOptions(return_prompt=True)
        )
        response = await served.stub.Score(request)
    assert statuses(response) == ["OK", "INVALID", "OK"]
    first, second, third = response.results
    assert MessageToDict(first, preserving_proto_field_name=True) == {
        "key": "a",
        "group": "g",
        "status": "ITEM_STATUS_OK",
        "verdict": {
            "expected_rating": 1.75,
            "rating": 2,
            "probabilities": [{"rating": 1, "probability": 0.25}, {"rating": 2, "probability": 0.75}],
            "label_mass": 0.9,
            "score": 0.75,
            "entropy": 0.5,
        },
        "scenario": "math",
        "scenario_probability": 0.8,
        "version": VERSION,
        "template_digest": "t" * 64,
        "tokens": {"prompt": 40, "cached": 10, "completion": 2},
        "timings": {"queued_s": 0.5, "tokenised_s": 0.125, "computed_s": 0.25},
        "prompt": "shown",
    }
    assert not second.HasField("verdict")
    assert second.error_field == "items[1].messages[0].role"
    assert second.error == "items[1].messages[0].role: is bad"
    assert second.version == VERSION
    assert third.key == "b"


async def test_options_reach_the_judge() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        options = pb.ScoreOptions(
            critique=pb.CritiqueMode(max_points=8),
            version=VERSION,
            truncation=pb.TRUNCATION_POLICY_RESPONSE_END,
            reasoning_policy=pb.REASONING_POLICY_APART,
        )
        await served.stub.Score(pb.ScoreRequest(items=[item()], options=options))
    [seen] = judge.options
    assert seen is not None
    assert seen.truncation is Truncation.RESPONSE_END
    assert seen.reasoning_policy is ReasoningPolicy.APART
    assert "max_points=8" in repr(seen.mode)


async def test_compare() -> None:
    async with serving(FakeJudge()) as served:
        source = item()
        comparisons = [
            pb.Comparison(key=key, messages=source.messages, response_a=source.response, response_b=source.response)
            for key in ("a", "invalid")
        ]
        response = await served.stub.Compare(pb.CompareRequest(comparisons=comparisons))
    first, second = response.results
    assert first.status == pb.ITEM_STATUS_OK
    assert first.verdict.preference == pb.PREFERENCE_B
    assert (first.verdict.probability_a, first.verdict.probability_tie) == (0.2, 0.1)
    assert first.verdict.order_disagreement == 0.05
    assert second.error_field == "comparisons[1].messages[0].role"
    assert not second.HasField("verdict")


async def test_classify_lists_probabilities_in_describes_order() -> None:
    async with serving(FakeJudge()) as served:
        conversation = pb.Conversation(key="c", messages=item().messages)
        response = await served.stub.Classify(pb.ClassifyRequest(conversations=[conversation]))
        described = await served.stub.Describe(pb.DescribeRequest())
    [result] = response.results
    assert [entry.scenario for entry in result.probabilities] == [scenario.id for scenario in described.scenarios]
    assert result.scenario == result.probabilities[0].scenario


async def test_difficulty_blames_fields_of_the_request() -> None:
    conversation = pb.Conversation(messages=item().messages)
    items = [
        pb.DifficultyItem(key="a", conversation=conversation, answer="x"),
        pb.DifficultyItem(conversation=conversation),
        pb.DifficultyItem(answer="x"),
        pb.DifficultyItem(evaluation=item(), answer="bad prompt"),
        pb.DifficultyItem(key="a", evaluation=item(), answer="x"),
    ]
    async with serving(FakeJudge()) as served:
        response = await served.stub.Difficulty(pb.DifficultyRequest(items=items, return_tokens=True))
    assert [result.error_field for result in response.results] == [
        "",
        "items[1].answer",
        "items[2].prompt",
        "items[3].evaluation.messages[0].role",
        "items[4].key",
    ]
    good = response.results[0]
    assert (good.conditional, good.unconditional, good.answer_tokens, len(good.tokens)) == (-1, -2, 1, 1)
    assert not response.results[1].HasField("conditional")


async def test_describe() -> None:
    async with serving(FakeJudge(), max_items=7) as served:
        response = await served.stub.Describe(pb.DescribeRequest())
    assert response.current == VERSION
    [version] = response.versions
    assert version.reference_scenarios == ["math"]
    assert response.limits.max_items == 7
    assert response.limits.max_message_bytes == 64 * 1024 * 1024
    assert response.software_version == "1.2.3"
    ids = [scenario.id for scenario in response.scenarios]
    assert ids == sorted(ids)
    assert all(criterion.weight == 1 for criterion in response.scenarios[0].criteria)


@pytest.mark.parametrize(
    ("method", "request_type", "field"),
    [
        ("Score", pb.ScoreRequest, "items"),
        ("Compare", pb.CompareRequest, "comparisons"),
        ("Classify", pb.ClassifyRequest, "conversations"),
        ("Difficulty", pb.DifficultyRequest, "items"),
    ],
)
async def test_no_items(method: str, request_type: Any, field: str) -> None:
    async with serving(FakeJudge()) as served:
        error = await fails(getattr(served.stub, method)(request_type()))
    assert violation(error)[0] == field


async def test_too_many_items() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        error = await fails(served.stub.Score(pb.ScoreRequest(items=[item()] * 10_000)))
        field, problem = violation(error)
        assert field == "items"
        assert "10000" in problem
        assert "512" in problem
        assert "split" in problem
        assert judge.started == []
        assert statuses(await served.stub.Score(pb.ScoreRequest(items=[item()]))) == ["OK"]


async def test_an_oversized_item_fails_alone() -> None:
    async with serving(FakeJudge()) as served:
        request = pb.ScoreRequest(items=[item("big", text="x" * 10_000_000), item("small")])
        response = await served.stub.Score(request)
    assert statuses(response) == ["INVALID", "OK"]
    assert response.results[0].error_field == "items[0]"
    assert str(1024 * 1024) in response.results[0].error
    assert response.results[0].key == "big"


async def test_an_oversized_message_is_refused_and_the_connection_lives() -> None:
    async with serving(FakeJudge(), max_message_bytes=100_000) as served:
        error = await fails(served.stub.Score(pb.ScoreRequest(items=[item(text="x" * 200_000)])))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert statuses(await served.stub.Score(pb.ScoreRequest(items=[item()]))) == ["OK"]


@pytest.mark.parametrize("method", ["Score", "Compare", "Classify", "Difficulty"])
async def test_unknown_version(method: str) -> None:
    requests = {
        "Score": pb.ScoreRequest(items=[item()], options=pb.ScoreOptions(version="other")),
        "Compare": pb.CompareRequest(options=pb.CompareOptions(version="other")),
        "Classify": pb.ClassifyRequest(version="other"),
        "Difficulty": pb.DifficultyRequest(version="other"),
    }
    async with serving(FakeJudge()) as served:
        error = await fails(getattr(served.stub, method)(requests[method]))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert VERSION in (error.details() or "")
    assert "other" in (error.details() or "")


async def test_repeated_keys_keep_the_first() -> None:
    async with serving(FakeJudge()) as served:
        items = [item("a"), item(""), item(""), item("a"), item("a")]
        response = await served.stub.Score(pb.ScoreRequest(items=items))
    assert statuses(response) == ["OK", "OK", "OK", "INVALID", "INVALID"]
    assert [result.error_field for result in response.results[3:]] == ["items[3].key", "items[4].key"]
    assert all("items[0]" in result.error for result in response.results[3:])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (pb.ScoreOptions(critique=pb.CritiqueMode(max_points=0)), "options.critique.max_points"),
        (pb.ScoreOptions(critique=pb.CritiqueMode(max_points=9)), "options.critique.max_points"),
        (pb.ScoreOptions(critique=pb.CritiqueMode(max_point_chars=19)), "options.critique.max_point_chars"),
        (pb.ScoreOptions(critique=pb.CritiqueMode(max_point_chars=1001)), "options.critique.max_point_chars"),
        (pb.ScoreOptions(reasoning=pb.ReasoningMode(samples=0)), "options.reasoning.samples"),
        (pb.ScoreOptions(reasoning=pb.ReasoningMode(samples=17)), "options.reasoning.samples"),
        (pb.ScoreOptions(reasoning=pb.ReasoningMode(temperature=-0.1)), "options.reasoning.temperature"),
        (pb.ScoreOptions(reasoning=pb.ReasoningMode(temperature=2.1)), "options.reasoning.temperature"),
        (pb.ScoreOptions(reasoning=pb.ReasoningMode(temperature=float("nan"))), "options.reasoning.temperature"),
        (pb.ScoreOptions(reasoning=pb.ReasoningMode(max_tokens=15)), "options.reasoning.max_tokens"),
        (pb.ScoreOptions(reasoning=pb.ReasoningMode(max_tokens=4097)), "options.reasoning.max_tokens"),
        (pb.ScoreOptions(truncation=9), "options.truncation"),  # type: ignore[arg-type]
        (pb.ScoreOptions(reasoning_policy=9), "options.reasoning_policy"),  # type: ignore[arg-type]
    ],
)
async def test_bad_options(options: pb.ScoreOptions, field: str) -> None:
    async with serving(FakeJudge()) as served:
        error = await fails(served.stub.Score(pb.ScoreRequest(items=[item()], options=options)))
    assert violation(error)[0] == field


async def test_bad_compare_options() -> None:
    async with serving(FakeJudge()) as served:
        options = pb.CompareOptions(orders=9)  # type: ignore[arg-type]
        error = await fails(served.stub.Compare(pb.CompareRequest(options=options)))
    assert violation(error)[0] == "options.orders"


async def test_what_only_the_wire_can_get_wrong_is_the_items_failure() -> None:
    nothing = item()
    nothing.messages[0].parts.add()
    picture = item()
    picture.response.messages[0].parts.add(image=pb.Image(uri="x"))
    reason = item()
    reason.response.finish_reason = 77  # type: ignore[assignment]
    async with serving(FakeJudge()) as served:
        response = await served.stub.Score(pb.ScoreRequest(items=[nothing, picture, reason, item()]))
    assert statuses(response) == ["INVALID", "UNSUPPORTED", "INVALID", "OK"]
    assert [result.error_field for result in response.results] == [
        "items[0].messages[0].parts[1]",
        "items[1].response.messages[0].parts[1].image",
        "items[2].response.finish_reason",
        "",
    ]


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\x04\x0a\x02\xc3\x28"])
async def test_malformed_bytes(body: bytes) -> None:
    async with serving(FakeJudge()) as served:
        raw: Any = served.channel.unary_unary("/themis.v1.JudgeService/Score")
        error = await fails(raw(body))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "UTF-8" in (error.details() or "")
        assert statuses(await served.stub.Score(pb.ScoreRequest(items=[item()]))) == ["OK"]
    assert [line["code"] for line in served.lines("call")] == ["INVALID_ARGUMENT", "OK"]


async def test_unknown_method() -> None:
    async with serving(FakeJudge()) as served:
        raw: Any = served.channel.unary_unary("/themis.v1.JudgeService/Nothing")
        assert (await fails(raw(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_bug_is_internal_with_an_incident_and_nothing_leaks() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        other = asyncio.ensure_future(served.stub.Score(pb.ScoreRequest(items=[item("hold")])))
        await judge.until(lambda: "hold" in judge.started)
        error = await fails(served.stub.Score(pb.ScoreRequest(items=[item(f"raise {CANARY}"), item("hold too")])))
        judge.released.set()
        assert statuses(await other) == ["OK"]
    assert error.code() is grpc.StatusCode.INTERNAL
    assert CANARY not in (error.details() or "")
    [incident] = served.lines("incident")
    assert incident["incident"] in (error.details() or "")
    assert incident["error"] == "ValueError"
    assert "_handle" in incident["traceback"]
    assert judge.cancelled == ["hold too"]


async def test_an_item_that_the_judge_drops_does_not_leave_the_caller_waiting() -> None:
    async with serving(FakeJudge()) as served:
        error = await fails(served.stub.Score(pb.ScoreRequest(items=[item("drop")])))
    assert error.code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("unavailable", grpc.StatusCode.UNAVAILABLE),
        ("overloaded", grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_a_call_fails_if_all_of_its_items_were_turned_away(key: str, code: grpc.StatusCode) -> None:
    async with serving(FakeJudge()) as served:
        error = await fails(served.stub.Score(pb.ScoreRequest(items=[item(f"{key} 1"), item(f"{key} 2")])))
        assert error.code() is code
        response = await served.stub.Score(pb.ScoreRequest(items=[item(key), item("a")]))
    assert statuses(response) == [key.upper(), "OK"]


async def test_the_callers_deadline_reaches_the_judge() -> None:
    judge = FakeJudge()
    async with serving(judge, max_deadline_s=600) as served:
        await served.stub.Score(pb.ScoreRequest(items=[item()]), timeout=100)
        await served.stub.Score(pb.ScoreRequest(items=[item()]), timeout=10_000)
        await served.stub.Score(pb.ScoreRequest(items=[item()]))
    own, capped, default = (deadline.remaining_s() for deadline in judge.deadlines)
    assert 0 < own < 200  # gRPC rounds what it sends
    assert 200 < capped <= 600
    assert 200 < default <= 600


async def test_finished_items_are_answered_when_the_time_of_others_runs_out() -> None:
    judge = FakeJudge()
    async with serving(judge, max_deadline_s=0.2) as served:
        response = await served.stub.Score(pb.ScoreRequest(items=[item("a"), item("hold"), item("b")]))
        await judge.until(lambda: judge.cancelled == ["hold"])
    assert statuses(response) == ["OK", "DEADLINE_EXCEEDED", "OK"]
    assert response.results[1].version == VERSION


async def test_items_of_a_caller_that_leaves_are_cancelled() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        call = served.stub.Score(pb.ScoreRequest(items=[item("hold 1"), item("hold 2")]))
        other = asyncio.ensure_future(served.stub.Score(pb.ScoreRequest(items=[item("hold other")])))
        await judge.until(lambda: len(judge.started) == 3)
        call.cancel()
        await judge.until(lambda: sorted(judge.cancelled) == ["hold 1", "hold 2"])
        judge.released.set()
        assert statuses(await other) == ["OK"]
    assert [line["code"] for line in served.lines("call")] == ["CANCELLED", "OK"]


async def test_items_of_a_caller_whose_deadline_passes_are_cancelled() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        call = served.stub.Score(pb.ScoreRequest(items=[item("hold")]), timeout=0.2)
        await judge.until(lambda: judge.cancelled == ["hold"])
        # The server's answer and the client's own time-out are in a race; both say the same.
        outcome: Any = (await asyncio.gather(call, return_exceptions=True))[0]
    if isinstance(outcome, grpc.aio.AioRpcError):
        assert outcome.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    else:
        assert statuses(outcome) == ["DEADLINE_EXCEEDED"]


async def test_a_margin_is_kept_for_the_answer() -> None:
    judge = FakeJudge()
    async with serving(judge, answer_margin_s=1000) as served:
        await served.stub.Score(pb.ScoreRequest(items=[item()]), timeout=100)
    [deadline] = judge.deadlines
    assert deadline.remaining_s() < 95  # never more than a tenth of the caller's time


async def test_one_line_a_call_without_anybodys_text() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        request = pb.ScoreRequest(
            items=[item(f"{CANARY} a", text=CANARY), item(f"invalid {CANARY}", text=CANARY, reference=CANARY)]
        )
        await served.stub.Score(request)
        await fails(served.stub.Score(pb.ScoreRequest(items=[item(f"raise {CANARY}")])))
        await fails(served.stub.Score(pb.ScoreRequest(options=pb.ScoreOptions(version=CANARY))))
    assert CANARY not in served.log.getvalue()
    good, bad, unknown = served.lines("call")
    assert good["method"] == "Score"
    assert (good["code"], good["items"], good["ok"], good["failed"]) == ("OK", 2, 1, 1)
    assert good["statuses"] == {"OK": 1, "INVALID": 1}
    assert good["duration_s"] >= 0
    assert good["peer"]
    assert (bad["code"], bad["items"], bad["ok"]) == ("INTERNAL", 1, 0)
    assert unknown["code"] == "NOT_FOUND"


async def test_log_text_writes_what_an_unexpected_error_says() -> None:
    async with serving(FakeJudge(), log_text=True) as served:
        await fails(served.stub.Score(pb.ScoreRequest(items=[item(f"raise {CANARY}")])))
    assert CANARY in served.log.getvalue()
