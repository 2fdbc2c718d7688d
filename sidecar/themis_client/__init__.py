"""What a trainer installs: a client for a generative judge. It needs grpcio and protobuf, nothing else.

    from themis_client import Client, Item

    with Client("localhost:50051") as judge:
        scores = judge.score([Item("What is 2 + 2?", "4"), Item("What is 2 + 2?", "5")])
        rewards = [float(score) for score in scores.raise_if_failed()]

A result is a Score or a Failure, never a number in place of a score: a Failure has no numeric attribute, and using it
as a number raises ItemFailed. `score` and float() are in [0, 1]; `expected_rating` and `rating` are on the rubric's
scale; probabilities are in [0, 1]; log-likelihoods are natural logarithms; times end in `_s` (seconds). Every error
that is raised on purpose is a ThemisError. A client pins the judge version that is current at its first call.
"""

from themis_client import fork_support  # noqa: F401 - before gRPC is imported
from themis_client.aio import AsyncClient
from themis_client.client import Client
from themis_client.content import (
    Criterion,
    FinishReason,
    Image,
    Message,
    Part,
    Reasoning,
    Response,
    Rubric,
    Text,
    ToolCall,
    ToolResult,
)
from themis_client.credentials import Tls
from themis_client.description import Description, Limits, Scenario, Version
from themis_client.errors import (
    BadRequest,
    ClientClosed,
    DeadlineExceeded,
    InvalidItem,
    ItemFailed,
    MessageTooLarge,
    Overloaded,
    ProtocolError,
    Refused,
    ServerFailed,
    ThemisError,
    Unavailable,
    UnknownVersion,
    Unsupported,
)
from themis_client.failure import Failure, Status
from themis_client.fleet import (
    Agreement,
    DesiredState,
    FleetState,
    Lease,
    Listing,
    ReplicaState,
    ResidentStatus,
    ResidentVersion,
    Shadow,
    StoredVersion,
)
from themis_client.items import Comparison, Conversation, DifficultyItem, Item
from themis_client.options import (
    CompareOptions,
    CriteriaMode,
    CritiqueMode,
    Mode,
    Orders,
    RatingMode,
    ReasoningMode,
    ReasoningPolicy,
    ScoreOptions,
    Truncation,
)
from themis_client.replicas import ReplicaPolicy
from themis_client.results import (
    Classifications,
    Classified,
    Compared,
    Comparisons,
    CriterionVerdict,
    Critique,
    CritiquePoint,
    Difficulties,
    Difficulty,
    RatingProbability,
    ReasoningSample,
    Results,
    ScenarioProbability,
    Score,
    Scored,
    Scores,
    Timings,
    TokenCounts,
    TokenLikelihood,
    Verdict,
)
from themis_client.retry import RetryPolicy
from themis_client.tournament import Standing, Tournament
from themis_client.versions import AsyncVersions, HeldLease, LeasePolicy

__all__ = [
    "Agreement",
    "AsyncClient",
    "AsyncVersions",
    "BadRequest",
    "Classifications",
    "Classified",
    "Client",
    "ClientClosed",
    "CompareOptions",
    "Compared",
    "Comparison",
    "Comparisons",
    "Conversation",
    "CriteriaMode",
    "Criterion",
    "CriterionVerdict",
    "Critique",
    "CritiqueMode",
    "CritiquePoint",
    "DeadlineExceeded",
    "Description",
    "DesiredState",
    "Difficulties",
    "Difficulty",
    "DifficultyItem",
    "Failure",
    "FinishReason",
    "FleetState",
    "HeldLease",
    "Image",
    "InvalidItem",
    "Item",
    "ItemFailed",
    "Lease",
    "LeasePolicy",
    "Limits",
    "Listing",
    "Message",
    "MessageTooLarge",
    "Mode",
    "Orders",
    "Overloaded",
    "Part",
    "ProtocolError",
    "RatingMode",
    "RatingProbability",
    "Reasoning",
    "ReasoningMode",
    "ReasoningPolicy",
    "ReasoningSample",
    "Refused",
    "ReplicaPolicy",
    "ReplicaState",
    "ResidentStatus",
    "ResidentVersion",
    "Response",
    "Results",
    "RetryPolicy",
    "Rubric",
    "Scenario",
    "ScenarioProbability",
    "Score",
    "ScoreOptions",
    "Scored",
    "Scores",
    "ServerFailed",
    "Shadow",
    "Standing",
    "Status",
    "StoredVersion",
    "Text",
    "ThemisError",
    "Timings",
    "Tls",
    "TokenCounts",
    "TokenLikelihood",
    "ToolCall",
    "ToolResult",
    "Tournament",
    "Truncation",
    "Unavailable",
    "UnknownVersion",
    "Unsupported",
    "Verdict",
    "Version",
]
