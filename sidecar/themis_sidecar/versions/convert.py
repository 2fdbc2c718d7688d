"""Between the store's types and the contract's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from themis_judge.store import BrokenVersion, DesiredState, Lease, Manifest, ReplicaReport, read_time
from themis_proto.v1 import versions_pb2 as pb
from themis_sidecar.versions.board import read_standing
from themis_sidecar.versions.shadow import Agreement


def write_fleet(desired: DesiredState | None, reports: Iterable[ReplicaReport]) -> pb.FleetState:
    replicas = [write_replica(report) for report in sorted(reports, key=lambda report: report.replica)]
    return pb.FleetState(desired=None if desired is None else write_desired(desired), replicas=replicas)


def write_desired(desired: DesiredState) -> pb.DesiredState:
    shadow = desired.shadow
    return pb.DesiredState(
        number=desired.number,
        current=desired.current,
        resident=desired.resident,
        shadow=None if shadow is None else pb.Shadow(version=shadow.version, share=shadow.share),
        previous=desired.previous or "",
        by=desired.by,
        at=write_time(desired.at),
        why=desired.why,
    )


def write_replica(report: ReplicaReport) -> pb.ReplicaState:
    return pb.ReplicaState(
        replica=report.replica,
        at=write_time(report.at),
        applied=report.applied,
        current=report.current,
        residents=[_write_resident(id, text) for id, text in sorted(report.residents.items())],
        queue_tokens=report.queue_tokens,
        held_calls=report.held_calls,
        problem=report.problem,
        shadow=None if report.shadow is None else _write_agreement(report.shadow),
        stale=report.stale,
    )


def write_stored(entry: Manifest | BrokenVersion, leases: Iterable[Lease]) -> pb.StoredVersion:
    held = [write_lease(lease) for lease in leases]
    if isinstance(entry, BrokenVersion):
        return pb.StoredVersion(id=entry.id, problem=entry.problem, leases=held)
    return pb.StoredVersion(
        id=entry.id,
        name=entry.name,
        created_at=write_time(entry.created_at),
        parent=entry.parent or "",
        base_model=entry.base_model,
        kind=entry.kind,
        template_digest=entry.template_digest,
        bytes=entry.bytes,
        leases=held,
    )


def write_lease(lease: Lease) -> pb.Lease:
    return pb.Lease(id=lease.id, version=lease.version, holder=lease.holder, expires_at=write_time(lease.expires_at))


def write_time(text: str) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(read_time(text, "a time"))
    return found


def agreement_facts(agreement: Agreement) -> dict[str, Any]:
    """As a report in the store has it."""
    return {
        "version": agreement.version,
        "compared": agreement.compared,
        "same_rating_share": agreement.same_rating_share,
        "mean_absolute_difference": agreement.mean_absolute_difference,
        "dropped": agreement.dropped,
        "failed": agreement.failed,
    }


def _write_agreement(facts: Mapping[str, Any]) -> pb.Agreement:
    """A report is another process's word: what is no number there is left out here."""
    return pb.Agreement(
        version=str(facts.get("version", "")),
        compared=_count(facts.get("compared")),
        same_rating_share=_number(facts.get("same_rating_share")),
        mean_absolute_difference=_number(facts.get("mean_absolute_difference")),
        dropped=_count(facts.get("dropped")),
        failed=_count(facts.get("failed")),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**63 else 0


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _write_resident(id: str, text: str) -> pb.ResidentVersion:
    status, detail = read_standing(text)
    number = pb.ResidentStatus.ValueType(0 if status is None else status.value)
    return pb.ResidentVersion(version=id, status=number, detail=detail if status is not None else text)
