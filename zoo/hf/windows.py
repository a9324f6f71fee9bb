"""Layers with a sliding window in a `config.json`: `sliding_window` and `layer_types`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo.hf.keys import Rule, Settings, refused
from zoo.models.config import shortest_pattern, spread

# Their name of a kind of layer -> our letter.
_KINDS = {"full_attention": "G", "sliding_attention": "L"}

Layers = Callable[[Settings], str]


def windows(
    *,
    window: int | None,
    layers: Layers,
    keys: Settings | None = None,
    write: Callable[[Settings], Settings] = lambda ours: {},
    listed: bool = True,
) -> Rule:
    """The keys of sliding windows.

    Args:
        window: what a missing `sliding_window` means.
        layers: the letter of each layer where `layer_types` is missing, of all settings.
        keys: further ones that `layers` reads -> what they mean when missing; `use_sliding_window`
            among them turns all windows off.
        write: these keys, of the fields of a resolved `ModelConfig`.
        listed: whether the family has `layer_types`.
    """

    def read(theirs: Settings) -> Settings:
        letters = layer_letters(theirs, layers)
        width = theirs["sliding_window"] if theirs.get("use_sliding_window", True) else None
        if width is None:
            if "L" in letters and listed:
                raise refused("sliding_window", None, ["a number, since layers slide"])
            return {"window": None, "window_pattern": "L"}
        width = whole(theirs, "sliding_window")
        return {"window": width, "window_pattern": shortest_pattern(letters)}

    def written(ours: Settings) -> Settings:
        depth, window = ours["num_layers"], ours["window"]
        own = {"sliding_window": window} | write(ours)
        if listed:
            letters = "G" * depth if window is None else spread(ours["window_pattern"], depth)
            names = {letter: name for name, letter in _KINDS.items()}
            own["layer_types"] = [names[letter] for letter in letters]
        return own

    own = {"layer_types": None} if listed else {}
    return Rule({"sliding_window": window, **own, **(keys or {})}, read, written)


def layer_letters(theirs: Settings, layers: Layers) -> str:
    """G (full) or L (sliding) for each layer, of `layer_types` or where that is missing `layers`.

    Raises:
        CheckpointError: on another kind, or on fewer or more than there are layers.
    """
    depth, named = whole(theirs, "num_hidden_layers"), theirs.get("layer_types")
    if named is None:
        return layers(theirs)
    if not isinstance(named, list) or not all(
        isinstance(name, str) and name in _KINDS for name in named
    ):
        raise refused("layer_types", named, [list(_KINDS)])
    if len(named) != depth:
        raise refused("layer_types", named, [f"{depth} entries, as num_hidden_layers says"])
    return "".join(_KINDS[name] for name in named)


def every(period: int | str, *, of: str = "L", last: str = "G") -> Layers:
    """Layers of one kind, and each `period`-th (or as the key of that name says) of another."""

    def letters(theirs: Settings) -> str:
        number = whole(theirs, period) if isinstance(period, str) else period
        depth = whole(theirs, "num_hidden_layers")
        return "".join(last if (layer + 1) % number == 0 else of for layer in range(depth))

    return letters


def whole(theirs: Settings, name: str, least: int = 1) -> int:
    """A setting that is a whole number from `least` on."""
    value: Any = theirs[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise refused(name, value, [f"a whole number from {least} on"])
    return value
