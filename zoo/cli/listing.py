"""`zoo list`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import tyro

from zoo.cli.flags import parse
from zoo.files import dumps
from zoo.tables import table


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """Names that the other commands take."""

    what: Annotated[Literal["variants", "models", "families", "tasks"], tyro.conf.Positional] = (
        "variants"
    )
    """variants, models, families (checkpoints of the Hugging Face library) or tasks."""
    json: bool = False
    """Print JSON: a list of objects."""


Entry = dict[str, Any]
# What a line has room for; JSON has all of it.
_COLUMNS = {
    "variants": ("name", "summary", "stream", "paper"),
    "families": ("name", "architectures", "variants", "heads", "exports"),
}


def run(args: Sequence[str]) -> int:
    options = parse(ListOptions, args, command="list")
    listers: dict[str, Callable[[], list[Entry]]] = {
        "variants": _variants,
        "models": _models,
        "families": _families,
        "tasks": _tasks,
    }
    entries = listers[options.what]()
    if options.json:
        print(dumps(entries, indent=2))
    else:
        columns = _COLUMNS.get(options.what, tuple(entries[0]))
        print(table([[_cell(entry[name]) for name in columns] for entry in entries], columns))
    return 0


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each!r}" for key, each in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _variants() -> list[Entry]:
    from zoo.variants.describe import describe
    from zoo.variants.registry import list_variants

    return [_variant(describe(name).to_json()) for name in list_variants()]


def _variant(described: Entry) -> Entry:
    (stack,) = described["stacks"].values()
    ends = {name: stack["ends"][name] for name in ("embedding_norm", "final_norm")}
    kept = ("name", "summary", "equation", "aliases", "provenance", "note", "used_by")
    paper = described["paper"]
    return {name: described[name] for name in kept} | {
        "options": {option["name"]: option["default"] for option in described["options"]},
        "stream": stack["stream"],
        "ends": ends,
        "paper": paper["arxiv"] or paper["url"],
        "title": paper["title"],
    }


def _models() -> list[Entry]:
    from zoo.models.presets import list_models, preset

    return [
        {"name": name}
        | {
            field: getattr(preset(name), field)
            for field in ("architecture", "num_layers", "d_model", "num_heads", "variant")
        }
        for name in list_models()
    ]


def _families() -> list[Entry]:
    from zoo.hf.families import families, possible

    return [
        {
            "name": family.name,
            "architectures": possible(family, "architecture"),
            "variants": possible(family, "variant"),
            "classes": dict(family.classes),
            "heads": list(dict.fromkeys(family.classes.values())),
            # One table is read in both directions.
            "exports": "yes",
        }
        for family in families().values()
    ]


def _tasks() -> list[Entry]:
    from zoo.tasks import TASKS

    return [
        {
            "name": name,
            "models": [f"{own} ({head})" for own, head in task.models],
            "summary": task.summary,
        }
        for name, task in TASKS.items()
    ]
