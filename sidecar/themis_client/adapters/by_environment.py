"""What trainers need that take a function by its path and keep no object for it.

THEMIS_REWARD='{"target": "judge:50051"}'     see themis_client.adapters.reading
THEMIS_TEMPLATE=chatml                        see themis_client.adapters.templated
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from themis_chat.templates import Template
from themis_client.adapters.reading import TARGET_VARIABLE, TOKEN_VARIABLE, VARIABLE, settings_from_environment
from themis_client.adapters.rewarder import Rewarder
from themis_client.adapters.templated import TEMPLATE_VARIABLE, template_from_environment
from themis_client.adapters.unmasked import Trainer

VARIABLES = (VARIABLE, TARGET_VARIABLE, TOKEN_VARIABLE, TEMPLATE_VARIABLE)


@dataclass(frozen=True, slots=True)
class Entry:
    rewarder: Rewarder
    template: Template


_ENTRIES: dict[tuple[str, ...], Entry] = {}
"""By what they were made of. Such a trainer calls a bare function for each sample, so that a client can live nowhere
else: made for each call, it would connect anew, and could be answered by another version of the judge. It also keeps a
file of settings that is edited during a run from changing the reward halfway."""


def entry_for(trainer: Callable[[Template], Trainer], environment: Mapping[str, str]) -> Entry:
    """This process's rewarder by the environment, made at the first call; safe to call from any thread, and after a
    fork. trainer: what it tells about completions. Raises ValueError, and OSError for a file that can't be read."""
    key = (trainer.__module__, *(environment.get(name, "") for name in VARIABLES))
    found = _ENTRIES.get(key)
    # Threads that come at once may make several, which have no connection yet: setdefault lets all have the same.
    return found or _ENTRIES.setdefault(key, _made(trainer, environment))


def _made(trainer: Callable[[Template], Trainer], environment: Mapping[str, str]) -> Entry:
    template = template_from_environment(environment)
    settings = trainer(template).fit(settings_from_environment(environment))
    return Entry(Rewarder(settings), template)
