"""What trainers import and call: it may grow, and nothing in it may change under them."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import themis_client
from themis_client import AsyncClient, AsyncVersions, Client

METHODS = {
    "AsyncClient.__init__": (
        "target=localhost:50051 *version=None *timeout_s=300.0 *retry= *replicas= *batch_items=None "
        "*credentials=None *token=None *tls=None *token_file=None *lease=None *runtime= *lookup= *observe="
    ),
    "AsyncClient.classify": "conversations *version=None *timeout_s=None",
    "AsyncClient.close": "",
    "AsyncClient.compare": "comparisons *options= *timeout_s=None",
    "AsyncClient.describe": "*timeout_s=None",
    "AsyncClient.difficulty": "items *version=None *return_tokens=False *timeout_s=None",
    "AsyncClient.disconnect": "",
    "AsyncClient.refresh_version": "*timeout_s=None",
    "AsyncClient.score": "items *options= *timeout_s=None",
    "AsyncClient.stream": "items *options= *timeout_s=None *item_timeout_s=None",
    "AsyncClient.tournament": "groups tournament= *options= *timeout_s=None",
    "AsyncVersions.__init__": "dispatcher deadline runtime",
    "AsyncVersions.acquire": "version holder *ttl_s *timeout_s=None",
    "AsyncVersions.hold": "version policy *timeout_s=None",
    "AsyncVersions.list": "*timeout_s=None",
    "AsyncVersions.load": "version *shadow_share=None *by= *why= *wait_s=0.0 *timeout_s=None",
    "AsyncVersions.promote": "version *expected_current= *force=False *by= *why= *wait_s=0.0 *timeout_s=None",
    "AsyncVersions.release": "lease_id *timeout_s=None",
    "AsyncVersions.renew": "lease *ttl_s *timeout_s=None",
    "AsyncVersions.retire": "version *unload_only=False *by= *why= *wait_s=0.0 *timeout_s=None",
    "AsyncVersions.stop_shadow": "*by= *why= *wait_s=0.0 *timeout_s=None",
    "Client.__init__": (
        "target=localhost:50051 *version=None *timeout_s=300.0 *retry= *replicas= *batch_items=None "
        "*credentials=None *token=None *tls=None *token_file=None *lease=None"
    ),
    "Client.classify": "conversations *version=None *timeout_s=None",
    "Client.close": "",
    "Client.compare": "comparisons *options= *timeout_s=None",
    "Client.compare_async": "comparisons *options= *timeout_s=None",
    "Client.describe": "*timeout_s=None",
    "Client.difficulty": "items *version=None *return_tokens=False *timeout_s=None",
    "Client.manage": "work *timeout_s=None",
    "Client.refresh_version": "*timeout_s=None",
    "Client.score": "items *options= *timeout_s=None",
    "Client.score_async": "items *options= *timeout_s=None",
    "Client.stream": "items *options= *timeout_s=None *item_timeout_s=None",
    "Client.tournament": "groups tournament= *options= *timeout_s=None",
    "Client.tournament_async": "groups tournament= *options= *timeout_s=None",
}

VALUES = {
    "Agreement": "version compared same_rating_share mean_absolute_difference dropped failed",
    "DesiredState": "number current resident shadow previous by at why",
    "FleetState": "desired replicas reached=None",
    "Lease": "id version holder expires_at",
    "LeasePolicy": "holder ttl_s=600.0",
    "Listing": "versions fleet answering store_problem",
    "ReplicaState": ("replica at applied current residents queue_tokens held_calls problem shadow stale"),
    "ResidentVersion": "version status detail",
    "Shadow": "version share",
    "StoredVersion": "id name created_at parent base_model kind template_digest bytes problem leases",
    "Classified": "scenario version key= probabilities= label_mass=None",
    "CompareOptions": "orders= version=None reasoning_policy= return_prompt=False",
    "Compared": (
        "preference probability_a probability_b probability_tie version key= order_disagreement=None "
        "label_mass=None scenario= template_digest= tokens= timings= prompts="
    ),
    "Comparison": "messages response_a response_b *reference=None *scenario= *rubric=None *key=",
    "Conversation": "messages *key=",
    "CriteriaMode": "",
    "Criterion": "text id= name= weight=None",
    "CriterionVerdict": "id weight expected_rating rating probabilities= label_mass=None",
    "Critique": "strengths shortcomings text",
    "CritiqueMode": "max_points=None max_point_chars=None",
    "CritiquePoint": "text rating",
    "Description": "current versions scenarios limits software_version",
    "Difficulty": "conditional unconditional answer_tokens version key= tokens= counts=",
    "DifficultyItem": "prompt answer key=",
    "Failure": "status error field= key= group= version= scenario=",
    "Image": "uri= data= media_type=",
    "Item": "messages response *reference=None *scenario= *rubric=None *key= *group=",
    "Limits": (
        "max_items=0 max_message_bytes=0 max_item_bytes=0 stream_window=0 max_queue_tokens=0 max_deadline_s=0.0"
    ),
    "Message": "role parts",
    "RatingMode": "",
    "RatingProbability": "rating probability",
    "Reasoning": "text",
    "ReasoningMode": "samples=None seed=None temperature=None max_tokens=None",
    "ReasoningSample": "reasons expected_rating cut",
    "ReplicaPolicy": "load_bound=1.25 idle_items=16 calls=8 avoid_s=5.0 check_s=5.0 check_timeout_s=2.0",
    "Response": "messages finish_reason=",
    "RetryPolicy": "attempts=10 base_s=0.2 cap_s=10.0",
    "Rubric": "criteria scale_min=None scale_max=None",
    "Scenario": "id name definition criteria",
    "ScenarioProbability": "scenario probability",
    "Score": (
        "verdict version key= group= reasoning_verdict=None scenario= scenario_probability=None "
        "template_digest= tokens= timings= prompt=None truncated_tokens=0 reference_used=False"
    ),
    "ScoreOptions": "mode= version=None truncation= reasoning_policy= return_prompt=False",
    "Standing": "score games disagreement version key= group= scenario=",
    "Text": "text",
    "Timings": "queued_s=0.0 tokenised_s=0.0 computed_s=0.0",
    "Tls": "ca_file=None cert_file=None key_file=None server_name=",
    "TokenCounts": "prompt=0 cached=0 completion=0",
    "TokenLikelihood": "start_byte conditional unconditional",
    "ToolCall": "name arguments_json= id=",
    "ToolResult": "text id= is_error=False",
    "Tournament": "rounds=None seed=0 orders=",
    "Verdict": (
        "expected_rating rating score probabilities= label_mass=None entropy=None critique=None criteria= samples="
    ),
    "Version": (
        "id base_model engine weights_digest template_digest data_order verdict_order "
        "label_mass_threshold context_tokens dtype reference_scenarios"
    ),
}


def parameters(function: object) -> str:
    """Names, kinds and defaults; "=" stands for any default that is an object."""
    return " ".join(_parameter(one) for one in inspect.signature(function).parameters.values() if one.name != "self")  # type: ignore[arg-type]


def _parameter(one: inspect.Parameter) -> str:
    star = "*" if one.kind is inspect.Parameter.KEYWORD_ONLY else ""
    if one.default is inspect.Parameter.empty:
        return f"{star}{one.name}"
    plain = one.default is None or isinstance(one.default, (str, int, float, bool))
    return f"{star}{one.name}={one.default if plain else ''}"


def methods() -> dict[str, str]:
    return {
        f"{owner.__name__}.{name}": parameters(function)
        for owner in (AsyncClient, AsyncVersions, Client)
        for name, function in inspect.getmembers(owner, inspect.isfunction)
        if name == "__init__" or not name.startswith("_")
    }


def values() -> dict[str, str]:
    kinds = {name: getattr(themis_client, name) for name in themis_client.__all__}
    return {name: parameters(kind) for name, kind in kinds.items() if dataclasses.is_dataclass(kind)}


def test_methods() -> None:
    assert methods() == METHODS


def test_values() -> None:
    assert values() == VALUES


def test_everything_exported_is_there_and_sorted() -> None:
    assert themis_client.__all__ == sorted(set(themis_client.__all__))
    assert all(hasattr(themis_client, name) for name in themis_client.__all__)


def test_both_clients_offer_the_same() -> None:
    for name in ("score", "stream", "compare", "tournament", "classify", "difficulty", "describe", "refresh_version"):
        assert METHODS[f"Client.{name}"] == METHODS[f"AsyncClient.{name}"]


def test_everything_exported_is_documented() -> None:
    kinds = [getattr(themis_client, name) for name in themis_client.__all__]
    assert all(inspect.getdoc(kind) for kind in kinds if inspect.isclass(kind))


def test_values_are_frozen_and_slotted() -> None:
    for name in VALUES:
        kind = getattr(themis_client, name)
        assert kind.__dataclass_params__.frozen
        assert "__slots__" in vars(kind)


def test_it_needs_grpcio_and_protobuf_only() -> None:
    script = (
        "import sys, themis_client, themis_client.cli\n"
        "own = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(name for name in own if not name.startswith('_')))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", PATHS + script], capture_output=True, text=True, check=True)
    assert set(eval(done.stdout)) - GRPCS_OWN == {"google", "grpc", "themis_client", "themis_proto"}


GRPCS_OWN = {"cython_runtime", "grpc_health", "grpc_reflection", "grpc_tools", "typing_extensions"}
"""grpcio loads its companions where they are installed."""

PATHS = f"import sys; sys.path[:] = {sys.path!r}\n"
"""-S leaves out what the environment itself imports at its start."""
