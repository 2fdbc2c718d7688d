"""What is said of brokers that can't be reached, from what the client library writes into its log."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest
from kafka.errors import (  # type: ignore[import-untyped]
    KafkaConnectionError,
    KafkaTimeoutError,
    NodeNotReadyError,
    SaslAuthenticationFailedError,
)

from themis_pipeline.kafka.reasons import NotReached, reaching, said


def heard(*errors: Exception) -> str:
    with pytest.raises(NotReached) as caught, reaching():
        fail(errors)
    return said(caught.value)


def fail(errors: Iterable[Exception]) -> None:
    log = logging.getLogger("kafka.net.manager")
    for error in errors:
        log.warning("Bootstrap connection to %s failed: %s", "node", error)
    raise KafkaTimeoutError("a text with something in it")


def test_what_is_surest_is_said() -> None:
    lost = KafkaConnectionError("socket disconnected")
    refused = SaslAuthenticationFailedError("the password hush is wrong")
    assert heard(lost, refused, lost) == "no connection: they refuse kafka.sasl.username or kafka.sasl.password"


def test_certificates_are_told_apart() -> None:
    failed = "Handshake failed: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
    assert "kafka.bootstrap_servers" in heard(KafkaConnectionError(f"{failed}Hostname mismatch, certificate"))
    assert "kafka.tls.ca_file" in heard(KafkaConnectionError(f"{failed}unable to get local issuer certificate"))


def test_what_is_not_known_is_not_guessed() -> None:
    assert heard(NodeNotReadyError("something else")) == "KafkaTimeoutError"
    assert heard() == "KafkaTimeoutError"


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(KafkaConnectionError) as caught, reaching():
        raise KafkaConnectionError("a text with something in it")
    assert said(caught.value) == "KafkaConnectionError"


def test_nobody_listens_afterwards() -> None:
    heard()
    assert logging.getLogger("kafka.net").handlers == []
