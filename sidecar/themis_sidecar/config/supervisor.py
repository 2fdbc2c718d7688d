"""Settings of the parent that starts the server again, with --supervise."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from themis_sidecar.config.section import Section


class SupervisorConfig(Section):
    """With --supervise: when a server that died is started again."""

    first_wait_s: NonNegativeFloat = 1.0
    """Before the first restart; twice as long before each further one."""
    longest_wait_s: NonNegativeFloat = 30.0
    """The longest wait before a restart."""
    quick_s: PositiveFloat = 300.0
    """A server that lived shorter than this counts as a quick failure; one that lived longer starts the count anew."""
    quick_failures: PositiveInt = 5
    """After so many quick failures in a row it gives up, with the last one's exit code."""
