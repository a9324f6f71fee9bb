"""`zoo list`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import tyro

from zoo.cli.flags import parse
from zoo.tables import table
from zoo.training.trackers import dumps


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """Names that the other commands take."""

    what: Annotated[Literal["variants", "models", "tasks"], tyro.conf.Positional] = "variants"
    """variants, models or tasks."""
    json: bool = False
    """Print JSON: a list of objects."""


def run(args: Sequence[str]) -> int:
    options = parse(ListOptions, args, command="list")
    listers: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "variants": _variants,
        "models": _models,
        "tasks": _tasks,
    }
    entries = listers[options.what]()
    if options.json:
        print(dumps(entries, indent=2))
    else:
        rows = [[_cell(value) for value in entry.values()] for entry in entries]
        print(table(rows, header=list(entries[0])))
    return 0


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each!r}" for key, each in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _variants() -> list[dict[str, Any]]:
    from zoo.variants.registry import get_variant, list_variants

    return [
        {
            "name": variant.name,
            "options": dict(variant.options),
            "aliases": list(variant.aliases),
            "paper": variant.paper.arxiv or variant.paper.url,
            "summary": variant.summary,
        }
        for variant in map(get_variant, list_variants())
    ]


def _models() -> list[dict[str, Any]]:
    from zoo.models.presets import list_models, preset

    return [
        {"name": name}
        | {
            field: getattr(preset(name), field)
            for field in ("architecture", "num_layers", "d_model", "num_heads", "variant")
        }
        for name in list_models()
    ]


def _tasks() -> list[dict[str, Any]]:
    from zoo.tasks import TASKS

    return [
        {
            "name": name,
            "models": [f"{own} ({head})" for own, head in task.models],
            "summary": task.summary,
        }
        for name, task in TASKS.items()
    ]
