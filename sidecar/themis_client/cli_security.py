"""What all commands of `themis` take to be let in: certificates, and a file with a token; clients made by it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from themis_client.addresses import Target
from themis_client.credentials import Tls
from themis_client.errors import BadRequest

ClientT = TypeVar("ClientT")

TOKEN_FILE_VARIABLE = "THEMIS_TOKEN_FILE"


def add_arguments(command: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """No flag takes a token itself: flags can be read by every user of the machine."""
    command.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        default=environment.get(TOKEN_FILE_VARIABLE) or None,
        help=f"holds the bearer token (default: ${TOKEN_FILE_VARIABLE}, else none)",
    )
    command.add_argument("--tls", action="store_true", help="use TLS; each of the flags below says so too")
    command.add_argument("--tls-ca", type=Path, metavar="FILE", help="authorities to trust (default: gRPC's own)")
    command.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate to show (mTLS)")
    command.add_argument("--tls-key", type=Path, metavar="FILE", help="the certificate's key")
    command.add_argument("--tls-server-name", metavar="NAME", default="", help="name that the server must prove")


def tls(args: argparse.Namespace) -> Tls | None:
    """Raises ValueError for flags that don't go together."""
    if not (args.tls or args.tls_ca or args.tls_cert or args.tls_key or args.tls_server_name):
        return None
    if (args.tls_cert is None) != (args.tls_key is None):
        raise ValueError("--tls-cert and --tls-key go together")
    return Tls(args.tls_ca, args.tls_cert, args.tls_key, args.tls_server_name)


def client(args: argparse.Namespace, make: Callable[..., ClientT], **settings: Any) -> ClientT:
    """A client of args.server with these settings. Raises BadRequest for flags that can't be meant, and OSError."""
    try:
        Target.parse(args.server)
    except ValueError as error:
        raise BadRequest(f"--server: {error}") from error
    try:
        return make(args.server, tls=tls(args), token_file=args.token_file, **settings)
    except ValueError as error:
        raise BadRequest(str(error)) from error
