"""The kinds of calls that carry items: how each encodes, sends and reads them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from themis_client import decode, encode
from themis_client.batches import Job
from themis_client.decode import Answer
from themis_client.dispatch import Metadata, Rpc, Work
from themis_client.errors import InvalidItem, ThemisError
from themis_client.failure import Failure, Status
from themis_client.hashing import digest
from themis_client.items import (
    Comparison,
    ComparisonLike,
    Conversation,
    ConversationItemLike,
    DifficultyItem,
    Item,
    ItemLike,
)
from themis_client.replicas import Replica
from themis_client.results import Classified, Compared, Difficulty, Score
from themis_client.rpc_errors import ITEM_STATUSES
from themis_proto.v1 import judge_pb2 as pb


class Keyed(Protocol):
    """What the messages of all items have in common."""

    @property
    def key(self) -> str: ...
    def ByteSize(self) -> int: ...  # noqa: N802 - protobuf's name


InputT = TypeVar("InputT")
MessageT = TypeVar("MessageT", bound=Keyed)
AnswerT = TypeVar("AnswerT", bound=Answer)
OkT = TypeVar("OkT")
OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True, slots=True)
class Kind(Generic[InputT, MessageT, AnswerT, OkT, OptionsT]):
    """name: of the repeated field that carries the items; paths in errors start with it."""

    name: str
    encode: Callable[[InputT], MessageT]
    conversation: Callable[[MessageT], Iterable[pb.Message]]
    send: Callable[[OptionsT, Replica, Sequence[MessageT], float, Metadata], Awaitable[Sequence[AnswerT]]]
    decode: Callable[[AnswerT, str], OkT | Failure]

    def job(self, index: int, value: InputT, most_bytes: int) -> Job[MessageT] | Failure:
        """An item ready to be sent, or why it can't be."""
        path = self.path(index)
        try:
            message = self.encode(value)
        except InvalidItem as error:
            field = f"{path}.{error.field}" if error.field else path
            return Failure(
                Status.INVALID, f"{field}: {error.reason}", field, _echo(value, "key"), _echo(value, "group")
            )
        size = message.ByteSize()
        if size > most_bytes:
            told = f"{path} has {size} bytes; one item may have {most_bytes} on the wire"
            return Failure(Status.INVALID, told, path, message.key, _echo(value, "group"))
        return Job(index, message, digest(self.conversation(message)), size)

    def rpc(self, options: OptionsT) -> Rpc[MessageT, AnswerT]:
        async def send(
            replica: Replica, messages: Sequence[MessageT], timeout_s: float, metadata: Metadata
        ) -> Sequence[AnswerT]:
            return await self.send(options, replica, messages, timeout_s, metadata)

        return Rpc(self.name, send)

    def result(self, work: Work[MessageT, AnswerT], job: Job[MessageT] | Failure) -> OkT | Failure:
        """What became of an item, when its work is done."""
        if isinstance(job, Failure):
            return job
        answer = work.answers.get(job.index)
        return self.lost(job, work.lost[job.index], work.version) if answer is None else self.read(answer, job.index)

    def read(self, answer: AnswerT, index: int) -> OkT | Failure:
        """The result for the caller's item number `index`."""
        return self.decode(answer, self.path(index))

    def lost(self, job: Job[MessageT], error: ThemisError, version: str) -> Failure:
        """The result of an item whose batch never came back."""
        group = job.message.group if isinstance(job.message, pb.Item) else ""
        return Failure(ITEM_STATUSES[type(error)], str(error), key=job.message.key, group=group, version=version)

    def path(self, index: int) -> str:
        return f"{self.name}[{index}]"


async def describe(replica: Replica, timeout_s: float, metadata: Metadata) -> pb.DescribeResponse:
    return await replica.stub.Describe(pb.DescribeRequest(), timeout=timeout_s, metadata=metadata)


async def _score(
    options: pb.ScoreOptions, replica: Replica, items: Sequence[pb.Item], timeout_s: float, metadata: Metadata
) -> Sequence[pb.Result]:
    request = pb.ScoreRequest(items=items, options=options)
    return (await replica.stub.Score(request, timeout=timeout_s, metadata=metadata)).results


async def _compare(
    options: pb.CompareOptions, replica: Replica, items: Sequence[pb.Comparison], timeout_s: float, metadata: Metadata
) -> Sequence[pb.CompareResult]:
    request = pb.CompareRequest(comparisons=items, options=options)
    return (await replica.stub.Compare(request, timeout=timeout_s, metadata=metadata)).results


async def _classify(
    version: str, replica: Replica, items: Sequence[pb.Conversation], timeout_s: float, metadata: Metadata
) -> Sequence[pb.ClassifyResult]:
    request = pb.ClassifyRequest(conversations=items, version=version)
    return (await replica.stub.Classify(request, timeout=timeout_s, metadata=metadata)).results


async def _difficulty(
    options: tuple[str, bool],
    replica: Replica,
    items: Sequence[pb.DifficultyItem],
    timeout_s: float,
    metadata: Metadata,
) -> Sequence[pb.DifficultyResult]:
    request = pb.DifficultyRequest(items=items, version=options[0], return_tokens=options[1])
    return (await replica.stub.Difficulty(request, timeout=timeout_s, metadata=metadata)).results


def _encode_item(value: ItemLike) -> pb.Item:
    return encode.item(Item.from_dict(value) if isinstance(value, Mapping) else value)


def _encode_comparison(value: ComparisonLike) -> pb.Comparison:
    return encode.comparison(Comparison.from_dict(value) if isinstance(value, Mapping) else value)


def _encode_conversation(value: ConversationItemLike) -> pb.Conversation:
    return encode.conversation(Conversation.from_dict(value) if isinstance(value, Mapping) else value)


def _difficulty_conversation(item: pb.DifficultyItem) -> Iterable[pb.Message]:
    return item.evaluation.messages if item.HasField("evaluation") else item.conversation.messages


def _echo(value: object, name: str) -> str:
    found: Any = value.get(name) if isinstance(value, Mapping) else getattr(value, name, "")
    return found if isinstance(found, str) else ""


SCORE: Kind[ItemLike, pb.Item, pb.Result, Score, pb.ScoreOptions] = Kind(
    "items", _encode_item, lambda item: item.messages, _score, decode.score
)
COMPARE: Kind[ComparisonLike, pb.Comparison, pb.CompareResult, Compared, pb.CompareOptions] = Kind(
    "comparisons", _encode_comparison, lambda item: item.messages, _compare, decode.compared
)
CLASSIFY: Kind[ConversationItemLike, pb.Conversation, pb.ClassifyResult, Classified, str] = Kind(
    "conversations", _encode_conversation, lambda item: item.messages, _classify, decode.classified
)
DIFFICULTY: Kind[DifficultyItem, pb.DifficultyItem, pb.DifficultyResult, Difficulty, tuple[str, bool]] = Kind(
    "items", encode.difficulty_item, _difficulty_conversation, _difficulty, decode.difficulty
)
