"""What the makers of goldens share: our parameter tree, from another library's modules.

Needs numpy and torch only, so that it runs where jax is not installed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

Tree = dict[str, Any]
Array = np.ndarray[Any, Any]

# Every model is this small, so that an array file stays below 60 kB.
D_MODEL, NUM_HEADS, D_FF, VOCAB, LENGTH, BATCH = 16, 4, 24, 17, 6, 2


@dataclasses.dataclass(frozen=True)
class Golden:
    """One reference forward pass.

    Attributes:
        config: fields of our ModelConfig that describe the same model.
        params: our parameter tree with the reference's weights in it.
        inputs: arguments of our model's call, by name.
        outputs: `hidden` (the stream before the head) and `logits`, where the reference has them.
    """

    config: Mapping[str, Any]
    params: Tree
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    def save(self, path: Path, made_by: str) -> None:
        """An array file: `param:` and a path in our tree, `input:`, `output:`, two texts."""
        arrays = {f"param:{name}": array for name, array in flat(self.params)}
        for name, array in self.inputs.items():
            pixels = array.dtype.kind == "f"  # else tokens, or what masks them
            arrays[f"input:{name}"] = array.astype(np.float32 if pixels else np.int32)
        arrays |= {f"output:{name}": single(array) for name, array in self.outputs.items()}
        texts = {"config": json.dumps(dict(self.config)), "made_by": made_by}
        np.savez_compressed(path, **arrays, **{k: np.asarray(v) for k, v in texts.items()})


Maker = Callable[[], Golden]


def base_config(**changes: Any) -> dict[str, Any]:
    """The sizes of every golden, and what most references share."""
    sizes = {
        "vocab_size": VOCAB,
        "d_model": D_MODEL,
        "num_heads": NUM_HEADS,
        "d_ff": D_FF,
        "max_length": LENGTH,
    }
    return {**sizes, **changes}


def randomise(module: Any, seed: int = 0) -> None:
    """Move every parameter off its start: a missing norm, or one in another place, then shows.

    Matrices are drawn at std fan_in^-1/2 and embeddings at 1; gains, biases and multipliers
    keep their start plus noise of std 0.3. In float64, of values that float16 can hold: exact for
    both sides, and half as large in a compressed file.
    """
    import torch

    module.double().eval()
    generator = torch.Generator().manual_seed(seed)
    embeddings = {
        id(part.weight) for part in module.modules() if isinstance(part, torch.nn.Embedding)
    }
    for param in module.parameters():
        noise = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        if id(param) in embeddings:
            value = noise
        elif param.ndim == 2 and min(param.shape) > 1:
            value = noise * param.shape[-1] ** -0.5
        else:
            value = param.data + 0.3 * noise
        param.data.copy_(value.half())


def tokens(seed: int, vocab: int = VOCAB) -> Any:
    """[batch, length] random tokens, a torch int64 tensor."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocab, (BATCH, LENGTH), generator=generator)


def single(tensor: Any) -> Array:
    """A float32 numpy copy of a tensor or an array."""
    detach = getattr(tensor, "detach", None)
    return np.array(detach().numpy() if detach else tensor, np.float32)


def linear(layer: Any, *, bias: bool | None = None) -> Tree:
    """A torch Linear as ours; `bias=True` adds a zero bias where the reference has none."""
    tree = {"kernel": single(layer.weight).T}
    if layer.bias is not None:
        tree["bias"] = single(layer.bias)
    elif bias:
        tree["bias"] = np.zeros(layer.weight.shape[0], np.float32)
    return tree


def norm(layer: Any) -> Tree:
    """A norm as ours."""
    tree = {"gain": single(layer.weight)}
    if getattr(layer, "bias", None) is not None:
        tree["bias"] = single(layer.bias)
    return tree


def attention(q: Any, k: Any, v: Any, o: Any, *, bias: bool | None = None) -> Tree:
    """The four Linears of an attention sublayer."""
    parts = {"q": q, "k": k, "v": v, "o": o}
    return {name: linear(layer, bias=bias) for name, layer in parts.items()}


def blocks(layers: Sequence[Sequence[Tree]]) -> Tree:
    """[layers][sublayers] of {"branch": ..., "residual": ...} as the tree of a stack.

    Neighbouring layers of one structure are one block, stacked on a leading axis; that is our
    plan for every model here (a period of several layers does not occur).
    """

    def structure(layer: Sequence[Tree]) -> list[list[str]]:
        return [[name for name, _ in flat(sublayer)] for sublayer in layer]

    runs = [list(run) for _, run in groupby(layers, key=structure)]
    return {
        "blocks": {
            str(index): {"layers": {"0": {"sublayers": _stacked(run)}}}
            for index, run in enumerate(runs)
        }
    }


def _stacked(run: Sequence[Sequence[Tree]]) -> Tree:
    return {str(index): _merge(sublayers) for index, sublayers in enumerate(zip(*run, strict=True))}


def _merge(trees: Sequence[Tree]) -> Tree:
    return {
        key: _merge([tree[key] for tree in trees])
        if isinstance(trees[0][key], dict)
        else np.stack([tree[key] for tree in trees])
        for key in trees[0]
    }


def flat(tree: Tree, prefix: str = "") -> Iterable[tuple[str, Array]]:
    """(path, array) of every leaf; keys are joined by /."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{path}/")
        else:
            yield path, value
