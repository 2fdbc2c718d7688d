"""Who is calling: told by a bearer token, by a client's certificate, or by nothing where nothing is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from themis_sidecar.config import SecurityConfig
from themis_sidecar.config.security import is_loopback
from themis_sidecar.errors import Forbidden, Unauthenticated
from themis_sidecar.security.access import Need, Open
from themis_sidecar.security.callers import ANONYMOUS, NOBODY, Caller, Role
from themis_sidecar.security.tokens import Callers

SCHEME = "bearer"
MAX_TOKEN_CHARACTERS = 4096

Identity = Mapping[str, Iterable[bytes]]  # what gRPC says about the other end of a connection


class Authenticator:
    """`callers` gives the file's callers as they are now; None where there is no such file.

    With a file, a call needs one of its tokens or one of its certificates. Without, whatever the authorities of the
    clients vouch for may score, and where there are none either, everybody is anonymous.
    """

    def __init__(self, config: SecurityConfig, host: str, callers: Callable[[], Callers] | None) -> None:
        self._callers = callers
        self._certified = config.tls.client_ca_file is not None
        chosen = config.anonymous_role
        self._anonymous = Caller(
            ANONYMOUS, (Role.ADMIN if is_loopback(host) else Role.SCORE) if chosen is None else Role.named(chosen)
        )

    def by_header(self, authorization: Sequence[str]) -> Caller | None:
        """The caller by the values of the `authorization` header; None where only the connection can tell.

        Raises Unauthenticated for a token that is wrong, even where a certificate would do: whoever brings one means
        to be known by it.
        """
        if self._callers is None or not authorization:
            return None if self._certified else self.by_connection({})
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != SCHEME or not token or len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated('send one "authorization: Bearer TOKEN"')
        caller = self._callers().by_token(token)
        if caller is None:
            raise Unauthenticated("the bearer token is not known here")
        return caller

    def by_connection(self, identity: Identity) -> Caller:
        """The caller that a client's certificate names. Raises Unauthenticated where none does and one has to."""
        names = _names(identity) if self._certified else ()
        if self._callers is not None:
            known = self._callers().certificates
            for name in names:
                if name in known:
                    return known[name]
            raise Unauthenticated('a token is needed: "authorization: Bearer TOKEN"')
        if not self._certified:
            return self._anonymous
        if not names:
            raise Unauthenticated("the client's certificate names nobody")
        return Caller(names[0], Role.SCORE)


def check_access(caller: Caller, need: Need | None) -> None:
    """Raises Forbidden where the caller may not."""
    if need is None:
        raise Forbidden("nobody may call this method")
    if isinstance(need, Role) and caller.role < need:
        raise Forbidden(
            f"this method is for the role {need.name.lower()}, and the caller has {caller.role.name.lower()}"
        )


def check_http(authenticator: Authenticator, authorization: Sequence[str], need: Need) -> Caller:
    """For an HTTP port beside the gRPC one: the same tokens, from the values of the Authorization header.

    Raises Unauthenticated (401) and Forbidden (403). No certificate is known there: under mTLS without a file of
    callers nobody gets in but to what is open.
    """
    if isinstance(need, Open):
        return NOBODY
    caller = authenticator.by_header(authorization) or authenticator.by_connection({})
    check_access(caller, need)
    return caller


def _names(identity: Identity) -> tuple[str, ...]:
    """The common name, then the alternative ones."""
    fields = ("x509_common_name", "x509_subject_alternative_name")
    values = [value.decode("utf-8", "replace") for name in fields for value in identity.get(name, ())]
    return tuple(value for value in values if value)
