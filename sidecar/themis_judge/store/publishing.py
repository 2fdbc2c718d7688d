"""Publishing: files first, the manifest last; a version exists from the moment its manifest does."""

from __future__ import annotations

from collections.abc import Mapping

from themis_judge.digests import file_digest, weights_files
from themis_judge.errors import BadScenario, InvalidItem
from themis_judge.scenarios import Scenario, load_scenarios
from themis_judge.store import layout
from themis_judge.store.clock import Clock, written
from themis_judge.store.codec import BadJson, encode
from themis_judge.store.errors import Conflict, Refused
from themis_judge.store.files import AlreadyThere, Files, NotThere, walk
from themis_judge.store.manifests import read_tombstone, sealed
from themis_judge.store.safety import Source, sources
from themis_judge.store.types import FORMAT, Draft, FileEntry, Manifest
from themis_judge.validation import check_item
from themis_judge.version import references_of, template_digest


def publish(files: Files, draft: Draft, clock: Clock) -> Manifest:
    """A crash at any moment leaves either the whole version or files that nobody lists. Raises Refused, Conflict."""
    layout.checked_name(draft.name, "name")
    chosen = _scenarios(draft)
    _check(draft, chosen)
    found, entries, weights = _read(draft)
    try:
        manifest = _manifest(draft, chosen, weights, entries, written(clock.now()))
        data = encode(manifest)
    except BadJson as error:
        raise Refused(f"the draft can't be written as JSON: {error}") from error
    _check_free(files, manifest.id)
    _check_base(files, manifest)
    _copy(files, manifest, found)
    _announce(files, manifest, data)
    return manifest


def _read(draft: Draft) -> tuple[list[Source], tuple[FileEntry, ...], str]:
    """The files, what the manifest says of them, and the digest of the weights."""
    try:
        found = sources(draft)
        entries = tuple(FileEntry(source.path, source.bytes, file_digest(source.file)) for source in found)
        return found, entries, file_digest(*weights_files(draft.weights.expanduser()))
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}") from error


def _manifest(
    draft: Draft, scenarios: Mapping[str, Scenario], weights: str, files: tuple[FileEntry, ...], at: str
) -> Manifest:
    return sealed(
        Manifest(
            format=FORMAT,
            id="",
            name=draft.name,
            created_at=at,
            parent=draft.parent,
            base_model=draft.base_model,
            kind=draft.kind,
            settings=draft.settings,
            weights_digest=weights,
            template_digest=template_digest(draft.settings, scenarios, references_of(draft.settings, scenarios)),
            health_prompts=draft.health_prompts,
            calibration=draft.calibration,
            gate_report=draft.gate_report,
            files=files,
        )
    )


def _scenarios(draft: Draft) -> Mapping[str, Scenario]:
    if draft.scenarios is None:
        return load_scenarios()
    try:
        return load_scenarios([draft.scenarios.expanduser()], built_in=False)
    except BadScenario as error:
        raise Refused(str(error)) from error


def _check(draft: Draft, scenarios: Mapping[str, Scenario]) -> None:
    settings = draft.settings
    if not 0 <= settings.label_mass_threshold <= 1:
        raise Refused(f"settings.label_mass_threshold: is {settings.label_mass_threshold}; it lies in [0, 1]")
    for name in sorted(settings.reference_scenarios or ()):
        if name not in scenarios:
            raise Refused(f"settings.reference_scenarios: {name} is none of the version's scenarios")
    if not draft.base_model:
        raise Refused("base_model: is empty; name the model that the weights are, or are for")
    for index, prompt in enumerate(draft.health_prompts):
        try:
            check_item(prompt.item, scenarios)
        except InvalidItem as error:
            raise Refused(f"health_prompts[{index}].item: {error}") from error
        low, high = prompt.min_rating, prompt.max_rating
        if low is not None and high is not None and not low <= high:
            raise Refused(f"health_prompts[{index}]: min_rating {low} is above max_rating {high}")


def _check_free(files: Files, version: str) -> None:
    if read_tombstone(files, version) is not None:
        raise Conflict(f"{version} was retired, and an id is never used again; publish anew")
    try:
        files.read(layout.manifest_path(version))
    except NotThere:
        return
    raise Conflict(f"{version} is published already")


def _check_base(files: Files, manifest: Manifest) -> None:
    if manifest.kind == "lora" and read_tombstone(files, manifest.base_model) is not None:
        raise Refused(f"base_model: {manifest.base_model} is retired; an adapter of it could never be served")


def _copy(files: Files, manifest: Manifest, found: list[Source]) -> None:
    root = layout.files_path(manifest.id)
    for source in found:
        try:
            files.put(source.file, f"{root}/{source.path}")
            changed = source.changed()
        except (NotThere, OSError) as error:
            raise Refused(f"{source.file}: can't be read any more") from error
        if changed:
            raise Refused(f"{source.file}: was changed while it was being published")
    wanted = {(f"{root}/{file.path}", file.bytes) for file in manifest.files}
    missing = sorted(path for path, _ in wanted - {(file.path, file.bytes) for file in walk(files, root)})
    if missing:  # the store's cleaning can overtake a publisher that is slower than its bound
        raise Conflict(f"{missing[0]}: is gone or cut short; publish anew")


def _announce(files: Files, manifest: Manifest, data: bytes) -> None:
    version, path = manifest.id, layout.manifest_path(manifest.id)
    try:
        files.create(path, data)
    except AlreadyThere as error:
        raise Conflict(f"{version} is published already") from error
    if read_tombstone(files, version) is not None:  # see garbage.py, which looks the other way round
        files.delete(path)
        raise Conflict(f"{version} was cleaned away while it was being published; publish anew")
    try:
        _check_base(files, manifest)  # retiring looks for adapters after its tombstone: at least one sees the other
    except Refused:
        files.delete(path)
        raise
