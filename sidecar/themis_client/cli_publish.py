"""`themis versions publish`: puts a model's folder into a store. It needs the extra `serve`, and no server."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themis_client.errors import BadRequest

if TYPE_CHECKING:
    from themis_judge.store import Draft, HealthPrompt

DATA_ORDERS, VERDICT_ORDERS = ("cached", "paper"), ("rating_first", "reason_first")


def add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], tell: Callable[[str], None]
) -> argparse.ArgumentParser:
    """tell: gets the new version's id."""
    parser = actions.add_parser("publish", help="put a model's folder into a store", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a model with safetensors, or a LoRA adapter")
    parser.add_argument("--store", required=True, metavar="URL", help="a folder, or s3://bucket/path and the like")
    parser.add_argument("--name", required=True, help="what the version's id starts with")
    parser.add_argument(
        "--base-model", required=True, metavar="MODEL", help="what it was made from; a version for lora"
    )
    parser.add_argument("--kind", choices=("full", "lora"), default="full", help="(default: %(default)s)")
    parser.add_argument("--parent", metavar="VERSION", help="the version it was made from")
    parser.add_argument("--scenarios", type=Path, metavar="FOLDER", help="its scenarios (default: the built-in ones)")
    parser.add_argument(
        "--health",
        type=Path,
        metavar="FILE.jsonl",
        help='what it must rate before it serves, a line each: {"messages": "...", "response": "...", '
        '"scenario": "...", "min_rating": 1, "max_rating": 2}; the bounds are optional',
    )
    parser.add_argument("--data-order", choices=DATA_ORDERS, default="cached", help="(default: %(default)s)")
    parser.add_argument(
        "--verdict-order", choices=VERDICT_ORDERS, default="rating_first", help="(default: %(default)s)"
    )
    parser.add_argument("--label-mass-threshold", type=float, default=0.5, metavar="P", help="(default: %(default)g)")
    parser.add_argument(
        "--reference-scenario", action="append", metavar="ID", help="show references there; default: as scenarios say"
    )
    parser.set_defaults(run=lambda args: publish(args, tell), server=None)
    return parser


def publish(args: argparse.Namespace, tell: Callable[[str], None]) -> int:
    """Tells the version's id."""
    try:
        from themis_judge.store import JudgeStore, StoreError
    except ImportError as error:
        raise BadRequest(f"publishing needs the extra `serve`: {error}") from error
    store = JudgeStore.open(args.store, Path("~/.cache/themis/versions"))
    try:
        tell(store.publish(_draft(args)).id)
    except StoreError as error:
        raise BadRequest(str(error)) from error
    finally:
        store.close()
    return 0


def _draft(args: argparse.Namespace) -> Draft:
    from themis_judge.store import Draft
    from themis_judge.version import JudgeSettings

    chosen = args.reference_scenario
    return Draft(
        name=args.name,
        weights=args.folder,
        base_model=args.base_model,
        kind=args.kind,
        settings=JudgeSettings(
            data_order=args.data_order,
            verdict_order=args.verdict_order,
            label_mass_threshold=args.label_mass_threshold,
            reference_scenarios=None if chosen is None else frozenset(chosen),
        ),
        scenarios=args.scenarios,
        health_prompts=() if args.health is None else _health(args.health),
        parent=args.parent,
    )


def _health(file: Path) -> tuple[HealthPrompt, ...]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(_prompt(line, f"{file}: line {number}") for number, line in enumerate(lines, 1) if line.strip())


def _prompt(line: str, where: str) -> HealthPrompt:
    from themis_judge.items import Item, Message, Response
    from themis_judge.store import HealthPrompt

    try:
        found: dict[str, Any] = json.loads(line)
        messages = found["messages"]
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        item = Item(
            tuple(Message.of(turn["role"], turn["content"]) for turn in turns),
            Response.of(found["response"]),
            reference=found.get("reference"),
            scenario=found.get("scenario", ""),
        )
        return HealthPrompt(item, found.get("min_rating"), found.get("max_rating"))
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{where}: is no health prompt: {type(error).__name__}: {error}") from error
