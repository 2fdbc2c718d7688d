"""Between wire and judge: nothing is lost, nothing is invented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from themis_judge import items as judge
from themis_judge.engines.base import Usage
from themis_judge.errors import InvalidItem, UnsupportedItem
from themis_judge.version import JudgeVersion
from themis_proto.v1 import judge_pb2 as pb
from themis_sidecar import convert

VERSION = JudgeVersion("v", "b", "e", "w", "t", "cached", "rating_first", 0.5, 10, "float32", ())


def full_item() -> pb.Item:
    return pb.Item(
        key="k",
        group="g",
        messages=[
            pb.Message(role="system", parts=[pb.Part(text="be brief")]),
            pb.Message(role="user", parts=[pb.Part(text="a"), pb.Part(text="")]),
        ],
        response=pb.Response(
            messages=[
                pb.Message(
                    role="assistant",
                    parts=[
                        pb.Part(reasoning="hm"),
                        pb.Part(tool_call=pb.ToolCall(id="1", name="f", arguments_json="{}")),
                    ],
                ),
                pb.Message(role="tool", parts=[pb.Part(tool_result=pb.ToolResult(id="1", text="r", is_error=True))]),
            ],
            finish_reason=pb.FINISH_REASON_TOOL_CALLS,
        ),
        reference="",
        scenario="math",
        rubric=pb.Rubric(
            criteria=[pb.Criterion(text="x"), pb.Criterion(id="own", name="n", text="y", weight=0)],
            scale_min=-1,
            scale_max=0,
        ),
    )


def test_an_item_with_everything() -> None:
    assert convert.read_item(full_item()) == judge.Item(
        key="k",
        group="g",
        messages=(
            judge.Message("system", (judge.Text("be brief"),)),
            judge.Message("user", (judge.Text("a"), judge.Text(""))),
        ),
        response=judge.Response(
            (
                judge.Message("assistant", (judge.Reasoning("hm"), judge.ToolCall("f", "{}", "1"))),
                judge.Message("tool", (judge.ToolResult("r", "1", True),)),
            ),
            judge.FinishReason.TOOL_CALLS,
        ),
        reference="",
        scenario="math",
        rubric=judge.Rubric(
            (judge.Criterion("c1", "x"), judge.Criterion("own", "y", "n", 0.0)), scale_min=-1, scale_max=0
        ),
    )


def test_an_item_with_nothing() -> None:
    assert convert.read_item(pb.Item()) == judge.Item(messages=(), response=judge.Response(()))
    assert convert.read_item(pb.Item(rubric=pb.Rubric())).rubric == judge.Rubric(())


def test_a_comparison_with_everything() -> None:
    source = full_item()
    read = convert.read_comparison(
        pb.Comparison(
            key="k",
            messages=source.messages,
            response_a=source.response,
            reference="r",
            scenario="s",
            rubric=source.rubric,
        )
    )
    item = convert.read_item(source)
    assert read == judge.Comparison(item.messages, item.response, judge.Response(()), "r", "s", item.rubric, "k")


def test_defaults_of_options_are_the_judges() -> None:
    assert convert.read_options(pb.ScoreOptions()) == judge.Options()
    for mode, options in [
        (judge.RatingMode(), pb.ScoreOptions(rating=pb.RatingMode())),
        (judge.CritiqueMode(), pb.ScoreOptions(critique=pb.CritiqueMode())),
        (judge.ReasoningMode(), pb.ScoreOptions(reasoning=pb.ReasoningMode())),
        (judge.CriteriaMode(), pb.ScoreOptions(criteria=pb.CriteriaMode())),
    ]:
        assert convert.read_options(options).mode == mode
    assert convert.read_orders(pb.COMPARE_ORDERS_UNSPECIFIED) is judge.Orders.BOTH


def test_given_options() -> None:
    reasoning = pb.ReasoningMode(samples=4, seed=2**63, temperature=0.0, max_tokens=32)
    options = convert.read_options(pb.ScoreOptions(reasoning=reasoning, return_prompt=True))
    assert options.mode == judge.ReasoningMode(4, 2**63, 0.0, 32)
    assert options.return_prompt


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (judge.Status, pb.ItemStatus, "ITEM_STATUS_"),
        (judge.FinishReason, pb.FinishReason, "FINISH_REASON_"),
        (judge.Truncation, pb.TruncationPolicy, "TRUNCATION_POLICY_"),
        (judge.ReasoningPolicy, pb.ReasoningPolicy, "REASONING_POLICY_"),
        (judge.Orders, pb.CompareOrders, "COMPARE_ORDERS_"),
    ],
)
def test_enums_agree_in_names_and_numbers(ours: Any, theirs: Any, prefix: str) -> None:
    wire = {name.removeprefix(prefix): number for name, number in theirs.items()}
    own = {value.name: value.value for value in ours}
    assert own == {name: number for name, number in wire.items() if name in own}
    assert wire.keys() - own.keys() <= {"UNSPECIFIED"}


@pytest.mark.parametrize("place", ["messages", "response", "response_a", "response_b"])
@pytest.mark.parametrize(("part", "kind"), [(pb.Part(), InvalidItem), (pb.Part(image=pb.Image()), UnsupportedItem)])
def test_parts_that_only_the_wire_knows(place: str, part: pb.Part, kind: type[InvalidItem]) -> None:
    good = pb.Message(role="user", parts=[pb.Part(text="a")])
    bad = pb.Message(role="user", parts=[pb.Part(text="a"), part])
    both = pb.Response(messages=[good, bad])
    reads: dict[str, Callable[[], object]] = {
        "messages": lambda: convert.read_item(pb.Item(messages=[good, bad])),
        "response": lambda: convert.read_item(pb.Item(response=both)),
        "response_a": lambda: convert.read_comparison(pb.Comparison(response_a=both)),
        "response_b": lambda: convert.read_comparison(pb.Comparison(response_b=both)),
    }
    with pytest.raises(InvalidItem) as caught:
        reads[place]()
    assert type(caught.value) is kind
    path = "messages" if place == "messages" else f"{place}.messages"
    assert caught.value.field == f"{path}[1].parts[1]" + (".image" if kind is UnsupportedItem else "")


def test_a_verdict_with_everything() -> None:
    rating = judge.Distribution((1, 2, 3), (0.2, 0.3, 0.5), 0.99, 2.3, 3)
    verdict = judge.Verdict(
        rating,
        score=0.65,
        entropy=1.0,
        critique=judge.Critique((judge.Point("good", 3),), (judge.Point("bad", 1),), "all"),
        criteria=(judge.CriterionVerdict("c1", 1.0, rating),),
        samples=(judge.Sample("because", 2.5, True),),
    )
    result = judge.Result(
        judge.Status.OK,
        verdict,
        reasoning_verdict=verdict,
        scenario="math",
        usage=Usage(7, 6, 5, 4.0, 3.0),
        tokenised_s=2.0,
        truncated_tokens=9,
        reference_used=True,
    )
    written = convert.write_result(pb.Item(key="k"), "items[0]", result, VERSION)
    probabilities = [pb.RatingProbability(rating=r, probability=p) for r, p in ((1, 0.2), (2, 0.3), (3, 0.5))]
    expected = pb.Verdict(
        expected_rating=2.3,
        rating=3,
        probabilities=probabilities,
        label_mass=0.99,
        score=0.65,
        entropy=1.0,
        critique=pb.Critique(
            strengths=[pb.CritiquePoint(text="good", rating=3)],
            shortcomings=[pb.CritiquePoint(text="bad", rating=1)],
            text="all",
        ),
        criteria=[
            pb.CriterionVerdict(
                id="c1", weight=1.0, expected_rating=2.3, rating=3, probabilities=probabilities, label_mass=0.99
            )
        ],
        samples=[pb.ReasoningSample(reasons="because", expected_rating=2.5, cut=True)],
    )
    assert written == pb.Result(
        key="k",
        status=pb.ITEM_STATUS_OK,
        verdict=expected,
        reasoning_verdict=expected,
        scenario="math",
        version="v",
        template_digest="t",
        tokens=pb.TokenCounts(prompt=7, cached=6, completion=5),
        timings=pb.Timings(queued_s=4.0, tokenised_s=2.0, computed_s=3.0),
        truncated_tokens=9,
        reference_used=True,
    )


def test_what_an_engine_does_not_tell_is_absent() -> None:
    verdict = judge.Verdict(judge.Distribution((1, 2), None, None, 2.0, 2), score=1.0, entropy=None)
    written = convert.write_result(pb.Item(), "items[0]", judge.Result(judge.Status.OK, verdict), VERSION)
    assert {field.name for field, _ in written.verdict.ListFields()} == {"expected_rating", "rating", "score"}
    assert not {"scenario_probability", "prompt", "reasoning_verdict"} & {f.name for f, _ in written.ListFields()}


@pytest.mark.parametrize("status", [status for status in judge.Status if status is not judge.Status.OK])
def test_a_failure_has_no_number(status: judge.Status) -> None:
    written = convert.write_result(pb.Item(), "items[4]", judge.Result(status, error="why"), VERSION)
    assert not written.HasField("verdict")
    assert "why" in written.error
    blames = status in (judge.Status.INVALID, judge.Status.UNSUPPORTED, judge.Status.TOO_LONG)
    assert written.error_field == ("items[4]" if blames else "")


def test_only_one_order_reports_no_disagreement() -> None:
    preference = judge.Preference("tie", (0.1, 0.1, 0.8), None, None)
    result = judge.CompareResult(judge.Status.OK, preference, prompts=("p",))
    written = convert.write_comparison(pb.Comparison(), "comparisons[0]", result, VERSION)
    assert written.verdict.preference == pb.PREFERENCE_TIE
    assert not written.verdict.HasField("order_disagreement")
    assert written.prompts == ["p"]


def test_classification_without_probabilities() -> None:
    result = judge.Classification(judge.Status.OK, scenario="math")
    written = convert.write_classification(pb.Conversation(), "c", result, VERSION, ["math", "legal"])
    assert (written.scenario, list(written.probabilities)) == ("math", [])
