"""Publishing: what goes in comes out, what could run code or lead outside does not go in, and damage is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.judge.fakes import FakeEngine
from tests.unit.judge.store_samples import FarFiles, SetClock, adapter, model, opened, published, scenarios, tensors
from themis_judge import Item, Judge, JudgeSettings, Message, Response, load_scenarios
from themis_judge.digests import file_digest
from themis_judge.items import (
    Criterion,
    FinishReason,
    Reasoning,
    Rubric,
    Text,
    ToolCall,
    ToolResult,
)
from themis_judge.store import (
    BrokenVersion,
    Conflict,
    CorruptVersion,
    Draft,
    HealthPrompt,
    JudgeStore,
    Refused,
    StoreUnavailable,
    UnknownVersion,
    version_scenarios,
)
from themis_judge.store.cache import Cache
from themis_judge.version import references_of, template_digest

ITEM = Item((Message.of("user", "What is two and two?"),), Response.of("Four."), scenario="math")


def test_a_version_comes_back_as_it_was_published(tmp_path: Path) -> None:
    store = opened(tmp_path)
    weights = model(tmp_path / "model")
    settings = JudgeSettings("paper", "reason_first", 0.25, frozenset({"math", "open_qa"}))
    rich = Item(
        (Message("user", (Text("Ask ├ and \x00 and 😀"),)),),
        Response(
            (
                Message("assistant", (Reasoning("r"), ToolCall("tool", "{}", "1"))),
                Message("tool", (ToolResult("ok", "1", is_error=True),)),
                Message.of("assistant", "a"),
            ),
            FinishReason.STOP,
        ),
        "reference",
        "math",
        Rubric((Criterion("c", "text", "name", 0.5),), 1, 10),
        "key",
        "group",
    )
    prompts = (HealthPrompt(ITEM, 1.5, 4), HealthPrompt(rich))
    draft = Draft(
        "my.judge_1", weights, "base", "full", settings, None, prompts, "parent", {"t": 0.1}, {"passed": True}
    )
    made = store.publish(draft)
    assert store.manifest(made.id) == made == opened(tmp_path).manifest(made.id)
    assert store.list() == (made,)
    assert (made.settings, made.health_prompts, made.parent) == (settings, prompts, "parent")
    assert (made.calibration, made.gate_report) == ({"t": 0.1}, {"passed": True})
    assert made.id.startswith("my.judge_1-")
    folder = store.fetch(made.id)
    assert {file.name: file.read_bytes() for file in (folder / "judge").iterdir()} == {
        file.name: file.read_bytes() for file in weights.iterdir()
    }
    assert sum(file.stat().st_size for file in weights.iterdir()) == made.bytes


def test_an_adapter_is_a_version(tmp_path: Path) -> None:
    store = opened(tmp_path)
    base = published(store, tmp_path)
    made = store.publish(Draft("lora", adapter(tmp_path / "adapter"), base.id, "lora"))
    assert (made.kind, made.base_model) == ("lora", base.id)
    assert made.weights_digest == file_digest(tmp_path / "adapter" / "adapter_model.safetensors")


def test_the_weights_digest_is_the_one_that_the_engine_reports(tmp_path: Path) -> None:
    from themis_judge.engines.weights import locate

    store = opened(tmp_path)
    made = published(store, tmp_path)
    assert locate(str(store.fetch(made.id) / "judge")).weights_digest == made.weights_digest


async def test_a_judge_of_the_store_has_its_id_and_its_template_digest(tmp_path: Path) -> None:
    store = opened(tmp_path)
    settings = JudgeSettings(data_order="paper")
    made = store.publish(Draft("judge", model(tmp_path / "model"), "base", settings=settings))
    judge = Judge(FakeEngine(), version_scenarios(store.fetch(made.id)), made.settings, version_id=made.id)
    await judge.load()
    assert (judge.version.id, judge.version.template_digest) == (made.id, made.template_digest)
    await judge.unload()


def test_a_version_with_scenarios_uses_exactly_those(tmp_path: Path) -> None:
    store = opened(tmp_path)
    own = scenarios(tmp_path / "scenarios")
    made = store.publish(Draft("judge", model(tmp_path / "model"), "base", scenarios=own))
    found = version_scenarios(store.fetch(made.id))
    assert list(found) == ["law"]
    assert made.template_digest == template_digest(made.settings, found, references_of(made.settings, found))
    assert version_scenarios(store.fetch(published(store, tmp_path).id)) == load_scenarios()


def test_the_id_follows_from_the_contents(tmp_path: Path) -> None:
    clock = SetClock()
    store = opened(tmp_path, clock)
    first = Draft("judge", model(tmp_path / "one"), "base")
    drafts = [
        first,
        replace(first, weights=model(tmp_path / "two", seed=9)),
        replace(first, settings=JudgeSettings(label_mass_threshold=0.6)),
        replace(first, base_model="other"),
        replace(first, gate_report={"passed": 1}),
        replace(first, health_prompts=(HealthPrompt(ITEM),)),
    ]
    ids = {store.publish(draft).id for draft in drafts}
    assert len(ids) == len(drafts)
    with pytest.raises(Conflict, match="published already"):
        store.publish(first)
    clock.pass_s(1)
    assert store.publish(first).id not in ids


# ---------------------------------------------------------------------------------------------------- refusals


def _write(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return change


def _link(name: str, target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(target)


SHARD = "model-00001-of-00002.safetensors"
UNSAFE: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "pickled weights": (_write("pytorch_model.bin"), "pytorch_model.bin", "can run code"),
    "a checkpoint": (_write("judge.pt"), "judge.pt", "can run code"),
    "a pickle": (_write("extra.pkl"), "extra.pkl", "can run code"),
    "code": (_write("modeling_judge.py"), "modeling_judge.py", "can run code"),
    "code in capitals": (_write("MODEL.PY"), "MODEL.PY", "can run code"),
    "code below": (_write("deep/setup.py"), "deep/setup.py", "can run code"),
    "an unknown kind": (_write("weights.xyz"), "weights.xyz", "no known kind"),
    "a hidden file": (_write(".netrc"), ".netrc", "no known kind"),
    "a link inside": (_link("other.json", "config.json"), "other.json", "is a link"),
    "a link outside": (_link("secret.txt", "/etc/hostname"), "secret.txt", "is a link"),
    "a linked folder": (_link("etc", "/etc"), "etc", "is a link"),
    "a pipe": (lambda folder: os.mkfifo(folder / "pipe.json"), "pipe.json", "neither a file"),
    "a backslash": (_write("a\\b.json"), "a\\b.json", "can't be stored"),
    "a pickle that says it is safetensors": (_write(SHARD, b"\x80\x04" + b"x" * 99), SHARD, "no safetensors"),
    "weights cut short": (_write(SHARD, tensors()[:-1]), SHARD, "not as long"),
    "weights with a tail": (_write(SHARD, tensors() + b"x"), SHARD, "not as long"),
    "an empty file of weights": (_write(SHARD, b""), SHARD, "no safetensors"),
    "a header that is none": (_write(SHARD, b"\x02" + b"\0" * 7 + b"[]"), SHARD, "header"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json", "is missing"),
    "an adapter as full weights": (_write("adapter_config.json", b"{}"), "adapter_config.json", "kind lora"),
    "a shard that is missing": (
        _write("model.safetensors.index.json", b'{"weight_map": {"w": "model-00003-of-00003.safetensors"}}'),
        "model.safetensors.index.json",
        "model-00003-of-00003.safetensors, which is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSAFE)
def test_what_is_unsafe_or_broken_is_refused_by_name(case: str, tmp_path: Path) -> None:
    change, name, problem = UNSAFE[case]
    weights = model(tmp_path / "model")
    change(weights)
    store = opened(tmp_path)
    with pytest.raises(Refused) as raised:
        store.publish(Draft("judge", weights, "base"))
    assert str(weights / name) in str(raised.value)
    assert problem in str(raised.value)
    assert store.list() == ()
    assert not list((tmp_path / "store").rglob("*.json"))


def test_an_adapter_has_weights_of_its_own_alone(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter")
    (folder / "model.safetensors").write_bytes(tensors())
    with pytest.raises(Refused, match=r"model\.safetensors: an adapter's folder holds"):
        opened(tmp_path).publish(Draft("judge", folder, "base", "lora"))
    (folder / "model.safetensors").unlink()
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(Refused, match=r"adapter_model\.safetensors: is missing"):
        opened(tmp_path).publish(Draft("judge", folder, "base", "lora"))


BAD_DRAFTS: dict[str, tuple[dict[str, object], str]] = {
    "a name with a path": ({"name": "../judge"}, "is no name"),
    "an empty name": ({"name": ""}, "is no name"),
    "no base": ({"base_model": ""}, "base_model"),
    "a folder that isn't there": ({"weights": Path("/nowhere/at/all")}, "no such folder"),
    "a threshold": ({"settings": JudgeSettings(label_mass_threshold=1.5)}, "label_mass_threshold"),
    "an unknown scenario": ({"settings": JudgeSettings(reference_scenarios=frozenset({"tea"}))}, "tea"),
    "an item that can't be judged": (
        {"health_prompts": (HealthPrompt(replace(ITEM, messages=())),)},
        r"health_prompts\[0\].item: messages",
    ),
    "bounds the wrong way round": ({"health_prompts": (HealthPrompt(ITEM, 4, 2),)}, r"health_prompts\[0\]: min"),
    "a report that is no JSON": ({"gate_report": {"loss": float("nan")}}, "JSON"),
}


@pytest.mark.parametrize("case", BAD_DRAFTS)
def test_a_draft_that_makes_no_sense_is_refused(case: str, tmp_path: Path) -> None:
    change, problem = BAD_DRAFTS[case]
    draft = replace(Draft("judge", model(tmp_path / "model"), "base"), **change)  # type: ignore[arg-type]
    with pytest.raises(Refused, match=problem):
        opened(tmp_path).publish(draft)


def test_scenarios_are_checked_and_hold_nothing_else(tmp_path: Path) -> None:
    store = opened(tmp_path)
    draft = Draft("judge", model(tmp_path / "model"), "base", scenarios=scenarios(tmp_path / "scenarios"))
    (tmp_path / "scenarios" / "notes.txt").write_text("x")
    with pytest.raises(Refused, match=r"notes\.txt"):
        store.publish(draft)
    (tmp_path / "scenarios" / "notes.txt").unlink()
    (tmp_path / "scenarios" / "law.yaml").write_text("id: [")
    with pytest.raises(Refused, match=r"law\.yaml: not readable"):
        store.publish(draft)


class Interrupted(FarFiles):
    """While a file is copied, somebody changes it."""

    def put(self, source: Path, path: str) -> None:
        super().put(source, path)
        if source.name == SHARD:
            source.write_bytes(tensors(seed=5)) if self.rewrite else source.unlink()

    rewrite = True


@pytest.mark.parametrize(("rewrite", "problem"), [(True, "was changed"), (False, "can't be read any more")])
def test_a_file_that_changes_meanwhile_is_refused(rewrite: bool, problem: str, tmp_path: Path) -> None:
    files = Interrupted(tmp_path / "store")
    files.rewrite = rewrite
    store = JudgeStore(files, Cache(tmp_path / "cache", 0), SetClock())
    with pytest.raises(Refused, match=f"{SHARD}: {problem}"):
        store.publish(Draft("judge", model(tmp_path / "model"), "base"))
    assert store.list() == ()


def test_importing_the_store_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "grpc", "fsspec", "s3fs", "botocore", "numpy")
    code = f"import sys, themis_judge.store; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------------------------------------------- damage


def _edit(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def damage(manifest: Path) -> None:
        content = json.loads(manifest.read_bytes())
        change(content)
        manifest.write_text(json.dumps(content))

    return damage


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda file: file.write_bytes(b""), "not readable as JSON"),
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:-20]), "not readable as JSON"),
    "no UTF-8": (lambda file: file.write_bytes(b"\xff\xfe" + file.read_bytes()), "not readable as JSON"),
    "a list": (lambda file: file.write_bytes(b"[]"), "an object is expected|object"),
    "another threshold": (_edit(lambda data: data["settings"].update(label_mass_threshold=0)), "were changed"),  # type: ignore[attr-defined]
    "another id": (_edit(lambda data: data.update(id="judge-0123456789ab")), "were changed"),
    "a file less": (_edit(lambda data: data["files"].pop()), "were changed"),  # type: ignore[attr-defined]
    "a new field": (_edit(lambda data: data.update(extra=1)), "were changed"),
    "a later format": (_edit(lambda data: data.update(format=2)), "this software reads 1"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_manifest_is_named_and_listed_as_broken(case: str, tmp_path: Path) -> None:
    damage, problem = DAMAGED[case]
    store = opened(tmp_path)
    whole, broken = published(store, tmp_path), published(store, tmp_path, "other")
    damage(tmp_path / "store" / "versions" / broken.id / "manifest.json")
    with pytest.raises(CorruptVersion, match=problem) as raised:
        store.fetch(broken.id)
    assert broken.id in str(raised.value)
    assert store.list() == (whole, BrokenVersion(broken.id, str(raised.value)))
    assert store.retire(broken.id, "broken").version == broken.id
    assert store.list() == (whole,)


def _link_instead(folder: Path) -> None:
    (folder / SHARD).rename(folder.parent / "x")
    (folder / SHARD).symlink_to("../x")


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda folder: os.truncate(folder / SHARD, 9), "has 9 bytes"),
    "altered": (lambda folder: (folder / SHARD).write_bytes(tensors(seed=77)), "other contents"),
    "missing": (lambda folder: (folder / SHARD).unlink(), "is missing"),
    "a link": (_link_instead, "is missing"),
    "one more": (lambda folder: (folder / "extra.safetensors").write_bytes(tensors()), "not in its manifest"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_damaged_file_is_named(case: str, tmp_path: Path) -> None:
    damage, problem = FILES[case]
    made = published(opened(tmp_path), tmp_path)
    damage(tmp_path / "store" / "versions" / made.id / "files" / "judge")
    with pytest.raises(CorruptVersion, match=problem) as raised:
        opened(tmp_path).fetch(made.id)
    assert made.id in str(raised.value)


def test_a_half_written_version_is_none(tmp_path: Path) -> None:
    store = opened(tmp_path)
    made = published(store, tmp_path)
    (tmp_path / "store" / "versions" / made.id / "manifest.json").unlink()
    assert store.list() == ()
    for ask in (store.manifest, store.fetch):
        with pytest.raises(UnknownVersion, match=made.id):
            ask(made.id)


@pytest.mark.parametrize("version", ["", "judge", "..", "../x-0123456789ab", "/etc-0123456789ab", "a/b-0123456789ab"])
def test_what_is_no_id_leads_nowhere(version: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownVersion):
        opened(tmp_path).fetch(version)


def test_a_directory_without_permission_is_unavailable(tmp_path: Path) -> None:
    store = opened(tmp_path)
    (tmp_path / "store" / "versions").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="versions"):
        store.publish(Draft("judge", model(tmp_path / "model"), "base"))
