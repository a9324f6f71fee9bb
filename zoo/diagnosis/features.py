"""What a model computes on the way, as arrays."""

from __future__ import annotations

from typing import Any

import jax

from zoo.models.transformer import Transformer

Features = dict[str, Any]


def features(
    model: Transformer, *inputs: jax.Array, attention: bool = False, **more: Any
) -> Features:
    """The stream after every sublayer and every branch, stacked on an axis of layers.

    Pure in the model and its inputs: `nnx.jit(zoo.features)` compiles it.

    Args:
        inputs, more: what the model is called with: `input_ids`, or `pixel_values`; for an
            encoder-decoder `input_ids, decoder_input_ids`.
        attention: also the attention weights; this runs the model twice.

    Returns:
        `hidden` [batch, length, d_model], what the head reads; `stream` (what stands for it in a
        placement that carries more) and `branch` (as it is added, its norm and multiplier
        applied), both [layers, sublayers, batch, length, d_model]; and `attention`, by kind of
        sublayer, [layers, batch, heads, length, source length]. Of an encoder-decoder
        `hidden` of the decoder, and a dict of the others for each of `encoder` and `decoder`.
    """
    hidden, taps = model.measure(*inputs, taps="arrays", **more)
    found: dict[str, Features] = {
        stack: {"stream": own["stream"], "branch": own["branch"]} for stack, own in taps.items()
    }
    if attention:
        _, maps = model.measure(*inputs, taps="attention", **more)
        for stack, own in maps.items():
            found[stack]["attention"] = own
    if len(found) == 1:
        (found_here,) = found.values()
        return {"hidden": hidden} | found_here
    return {"hidden": hidden} | found
