"""From the contract's messages about versions to this package's values."""

from __future__ import annotations

from datetime import datetime, timezone

from google.protobuf.timestamp_pb2 import Timestamp

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
from themis_proto.v1 import versions_pb2 as pb

_STATUSES = {status.value: status for status in ResidentStatus}


def listing(message: pb.ListResponse) -> Listing:
    return Listing(
        versions=tuple(_stored(one) for one in message.versions),
        fleet=fleet(message.fleet, None),
        answering=_replica(message.answering),
        store_problem=message.store_problem,
    )


def fleet(message: pb.FleetState, reached: bool | None) -> FleetState:
    desired = _desired(message.desired) if message.HasField("desired") else None
    return FleetState(desired, tuple(_replica(one) for one in message.replicas), reached)


def lease(message: pb.Lease) -> Lease:
    return Lease(message.id, message.version, message.holder, _time(message.expires_at))


def _desired(message: pb.DesiredState) -> DesiredState:
    shadow = Shadow(message.shadow.version, message.shadow.share) if message.HasField("shadow") else None
    return DesiredState(
        number=message.number,
        current=message.current,
        resident=tuple(message.resident),
        shadow=shadow,
        previous=message.previous or None,
        by=message.by,
        at=_time(message.at),
        why=message.why,
    )


def _replica(message: pb.ReplicaState) -> ReplicaState:
    return ReplicaState(
        replica=message.replica,
        at=_time(message.at),
        applied=message.applied,
        current=message.current,
        residents=tuple(
            ResidentVersion(one.version, _STATUSES.get(one.status, ResidentStatus.UNKNOWN), one.detail)
            for one in message.residents
        ),
        queue_tokens=message.queue_tokens,
        held_calls=message.held_calls,
        problem=message.problem,
        shadow=_agreement(message.shadow) if message.HasField("shadow") else None,
        stale=message.stale,
    )


def _agreement(message: pb.Agreement) -> Agreement:
    return Agreement(
        version=message.version,
        compared=message.compared,
        same_rating_share=message.same_rating_share if message.HasField("same_rating_share") else None,
        mean_absolute_difference=(
            message.mean_absolute_difference if message.HasField("mean_absolute_difference") else None
        ),
        dropped=message.dropped,
        failed=message.failed,
    )


def _stored(message: pb.StoredVersion) -> StoredVersion:
    return StoredVersion(
        id=message.id,
        name=message.name,
        created_at=_time(message.created_at),
        parent=message.parent,
        base_model=message.base_model,
        kind=message.kind,
        template_digest=message.template_digest,
        bytes=message.bytes,
        problem=message.problem,
        leases=tuple(lease(one) for one in message.leases),
    )


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(timezone.utc)
