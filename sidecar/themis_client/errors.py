"""What can go wrong, one class a kind. Everything this package raises on purpose is a ThemisError."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from themis_client.failure import Failure


class ThemisError(Exception):
    """The base of all errors of this package."""


class Unavailable(ThemisError):
    """No replica could be reached, or none could serve, within the attempts or the deadline."""


class Overloaded(ThemisError):
    """The server refused the call for lack of room, on every attempt."""


class DeadlineExceeded(ThemisError):
    """The call's time ran out."""


class BadRequest(ThemisError):
    """The server refused the call's options; a retry can't help."""


class UnknownVersion(ThemisError):
    """No replica holds the judge version that was asked for."""


class Refused(ThemisError):
    """The server did not accept this caller's credentials."""


class Unsupported(ThemisError):
    """The server does not offer this call."""


class MessageTooLarge(ThemisError):
    """A message passed a size limit on the wire, in one of the two directions."""


class ServerFailed(ThemisError):
    """The server failed in a way that it did not explain."""


class ProtocolError(ThemisError):
    """The server's answer breaks the contract; no part of it is used."""


class ClientClosed(ThemisError):
    """The client was used after close(), or in a process in which gRPC can't work."""


class InvalidItem(ThemisError, ValueError):
    """An item can't be sent. `field` is a path from the item ("messages[0].role"); empty for the item itself."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason

    def __reduce__(self) -> tuple[type[InvalidItem], tuple[str, str]]:
        return type(self), (self.field, self.reason)


class ItemFailed(ThemisError):
    """A failed item was used as if it had a score, or raise_if_failed() found some. `failures` has them all."""

    def __init__(self, message: str, failures: Sequence[Failure] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)

    def __reduce__(self) -> tuple[type[ItemFailed], tuple[str, tuple[Failure, ...]]]:
        return type(self), (str(self), self.failures)
