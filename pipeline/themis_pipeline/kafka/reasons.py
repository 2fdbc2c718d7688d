"""Why no broker is reached, by the settings that would have to change.

kafka-python tries whatever went wrong again until its time is up, a refused password too, and says what it was in its
log alone (3.0.12). Can go when its errors say it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import (  # type: ignore[import-untyped]
    IllegalSaslStateError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

LOGGER = "kafka.net"
MAX_ERRORS = 100

_BY_KIND: tuple[tuple[type[Exception], str], ...] = (
    (SaslAuthenticationFailedError, "they refuse kafka.sasl.username or kafka.sasl.password"),
    (UnsupportedSaslMechanismError, "they don't take this kafka.sasl.mechanism"),
    (IllegalSaslStateError, "they don't ask for names on this listener: leave kafka.sasl.mechanism out"),
)
_CERTIFICATE = "kafka.tls.cert_file and kafka.tls.key_file: they want a certificate of ours, signed by whom they trust"
_BY_TEXT: tuple[tuple[str, str], ...] = (
    ("Hostname mismatch", "kafka.bootstrap_servers: their certificate is for another name"),
    ("IP address mismatch", "kafka.bootstrap_servers: their certificate is for another name"),
    ("CERTIFICATE_VERIFY_FAILED", "kafka.tls.ca_file: their certificate is signed by somebody else, or out of date"),
    ("CERTIFICATE_REQUIRED", _CERTIFICATE),
    ("BAD_CERTIFICATE", _CERTIFICATE),
    ("CERTIFICATE_UNKNOWN", _CERTIFICATE),
    ("UNKNOWN_CA", _CERTIFICATE),
    ("WRONG_VERSION_NUMBER", "kafka.tls.enabled: they don't speak TLS on this listener"),
    ("RECORD_LAYER_FAILURE", "kafka.tls.enabled: they don't speak TLS on this listener"),
    ("UNEXPECTED_EOF", "kafka.tls.enabled: they don't speak TLS on this listener"),
    ("Invalid frame length", "kafka.tls.enabled is off, and they speak TLS on this listener"),
    # Also where a password is refused: the broker closes as it says so, and the library may see that first.
    (
        "disconnected",
        "they end connections: is it kafka.tls.enabled, kafka.sasl.mechanism, kafka.sasl.username or "
        "kafka.sasl.password?",
    ),
)


class NotReached(KafkaTimeoutError):  # type: ignore[misc]
    """Its text is ours and may be shown."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@contextmanager
def reaching() -> Iterator[None]:
    """For what makes a client: a time-out says why, if that is known. Raises NotReached."""
    heard = _Heard()
    logger = logging.getLogger(LOGGER)
    logger.addHandler(heard)
    try:
        yield
    except KafkaTimeoutError as error:
        reason = _reason(heard.errors)
        raise NotReached(f"no connection: {reason}" if reason else type(error).__name__) from error
    finally:
        logger.removeHandler(heard)


def said(error: BaseException) -> str:
    """kafka-python's texts may quote what was sent; the names of its errors say enough."""
    return error.text if isinstance(error, NotReached) else type(error).__name__


class _Heard(logging.Handler):
    """Errors in the log, which come as arguments of its lines."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.errors += [one for one in arguments if isinstance(one, BaseException)]
        del self.errors[:-MAX_ERRORS]


def _reason(errors: list[BaseException]) -> str | None:
    for kind, reason in _BY_KIND:
        if any(isinstance(error, kind) for error in errors):
            return reason
    texts = [str(error) for error in errors]
    for part, reason in _BY_TEXT:
        if any(part in text for text in texts):
            return reason
    return None
