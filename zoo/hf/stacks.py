"""What the two stacks of an encoder-decoder have in a `config.json`."""

from __future__ import annotations

from typing import Any

from zoo.hf.keys import Entry, Key, Rule, Settings, refused


def depths(encoder: int, decoder: int) -> tuple[Entry, ...]:
    """The layers of each stack, by default as given.

    `num_hidden_layers` is a second name of the encoder's.
    """

    def read(theirs: Settings) -> Settings:
        layers, again = theirs["encoder_layers"], theirs["num_hidden_layers"]
        if again not in (None, layers):
            raise refused("num_hidden_layers", again, [layers])
        return {"num_encoder_layers": layers}

    keys: Settings = {"encoder_layers": encoder, "num_hidden_layers": None}
    return (
        Rule(keys, read, lambda ours: {"encoder_layers": ours["num_encoder_layers"]}),
        Key("decoder_layers", "num_decoder_layers", decoder),
    )


def alike(name: str, field: str, default: Any) -> Rule:
    """A size that the stacks of our models share, `encoder_{name}` and `decoder_{name}`."""
    source, target = f"encoder_{name}", f"decoder_{name}"

    def read(theirs: Settings) -> Settings:
        if theirs[target] != theirs[source]:
            raise refused(target, theirs[target], [theirs[source]])
        return {field: theirs[source]}

    return Rule(
        {source: default, target: default},
        read,
        lambda ours: dict.fromkeys((source, target), ours[field]),
    )
