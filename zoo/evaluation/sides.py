"""One interface to a model of ours and to one of the installed transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.decoding import generate
from zoo.errors import CheckpointError, ConfigError, choices
from zoo.hf.families import families, family_of
from zoo.hf.family import Family
from zoo.hf.files import read_json
from zoo.models.encoder_decoder import EncoderDecoder
from zoo.models.tower import Transformer

Array = np.ndarray[Any, Any]
Inputs = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model gives for a batch, float32.

    Attributes:
        output: logits, or hidden states of a model without a head.
        layers: stack -> what stands in the stream behind each of its layers; of a model of one
            stack under that key alone, whatever it is.
        ends: stack -> the last layer's behind a final norm, where that is known apart.
    """

    output: Array
    layers: dict[str, list[Array]]
    ends: dict[str, Array]


class Side(Protocol):
    """A model that can be compared."""

    @property
    def name(self) -> str: ...

    def run(self, inputs: Inputs) -> Outputs:
        """`input_ids`, `attention_mask` and so on; or `pixel_values`, channels last."""

    def continued(self, inputs: Inputs, new_tokens: int) -> Array:
        """The greedy answer to each prompt, int32 [batch, new_tokens]; nothing ends it early, the
        checkpoint's other rules hold."""


@dataclasses.dataclass(frozen=True)
class ZooSide:
    """A model of ours."""

    model: Transformer
    name: str

    def run(self, inputs: Inputs) -> Outputs:
        given = {key: jnp.asarray(array) for key, array in inputs.items()}
        output, ends, taps = _measured(self.model, given)
        # The last sublayer's is the layer's.
        layers = {name: list(np.asarray(own["stream"][:, -1])) for name, own in taps.items()}
        return Outputs(np.asarray(output), layers, {k: np.asarray(v) for k, v in ends.items()})

    def continued(self, inputs: Inputs, new_tokens: int) -> Array:
        given = {key: jnp.asarray(array) for key, array in inputs.items()}
        written = generate(
            self.model,
            given["input_ids"],
            given["attention_mask"],
            max_new_tokens=new_tokens,
            eos_id=(),
        )
        return np.asarray(written)[:, -new_tokens:]


@dataclasses.dataclass(frozen=True)
class TransformersSide:
    """A model of the transformers library, in float32."""

    model: Any
    name: str

    def run(self, inputs: Inputs) -> Outputs:
        import torch

        given = {key: _tensor(key, array) for key, array in inputs.items()}
        with torch.no_grad():
            made = self.model(**given, output_hidden_states=True)
        named = {
            "": getattr(made, "hidden_states", None),
            "encoder": getattr(made, "encoder_hidden_states", None),
            "decoder": getattr(made, "decoder_hidden_states", None),
        }
        # The first is the embedding.
        layers = {
            name: [each.float().numpy() for each in states[1:]]
            for name, states in named.items()
            if states
        }
        return Outputs(_output(made).float().numpy(), layers, {})

    def continued(self, inputs: Inputs, new_tokens: int) -> Array:
        import torch

        # `generate` counts from 0 where RoBERTa, called, counts from behind the padding's position.
        embeddings = getattr(self.model.base_model, "embeddings", None)
        count = getattr(embeddings, "create_position_ids_from_input_ids", None)
        greedy = {"do_sample": False, "num_beams": 1, "eos_token_id": None}
        written = []
        # Each by itself: a MiniMax whose first layer keeps no keys counts none there, and so masks
        # the wrong ones of a text that is padded on the left.
        for row, seen in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
            alone = {"input_ids": row[seen == 1][None], "attention_mask": seen[seen == 1][None]}
            given = {key: _tensor(key, array) for key, array in alone.items()}
            if count is not None:
                pad = self.model.config.pad_token_id
                given["position_ids"] = count(given["input_ids"], pad)
            with torch.no_grad():
                made = self.model.generate(**given, max_new_tokens=new_tokens, **greedy)
            written.append(made[0, -new_tokens:].numpy())
        return np.asarray(written, np.int32)


def of_transformers(folder: Path) -> TransformersSide:
    """The class of transformers that a folder's config.json names, with its weights.

    Raises:
        ConfigError: when transformers or torch is not installed.
        CheckpointError: when it cannot load the folder.
    """
    config = read_json(folder / "config.json")
    family = named_family(folder, config)
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"{error.name} is not installed, which this compares with: pip install "
            "'postnorm-zoo[parity]', or give another checkpoint as --against"
        ) from error
    names = [name for name in config.get("architectures") or [] if name in family.classes]
    cls = getattr(transformers, names[0] if names else "AutoModel", None)
    if cls is None:
        raise CheckpointError(f"transformers {transformers.__version__} has no class {names[0]}")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = cls.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise CheckpointError(f"transformers cannot load {folder}: {error}") from error
    return TransformersSide(model.eval(), f"transformers {transformers.__version__}")


def named_family(folder: Path, config: Mapping[str, Any]) -> Family:
    """The family of a checkpoint that transformers can load.

    Raises:
        CheckpointError: for a workdir, our own format and families that are not known.
    """
    name = config.get("model_type")
    known = {family.model_type for family in families().values()}
    if name not in known:
        kind = "a workdir of zoo train" if name is None else f"of model_type = {name!r}"
        raise CheckpointError(
            f"{folder} is {kind}, which transformers is not asked to load; give another "
            f"checkpoint as --against, or a folder of {choices(sorted(known))}"
        )
    return family_of(config)


@nnx.jit
def _measured(model: Transformer, given: dict[str, jax.Array]) -> tuple[Any, Any, Any]:
    """(output, what each stack ends in, taps by stack)."""
    hidden, taps = model.measure(**given, taps="arrays")
    ends = {"decoder" if "decoder" in taps else list(taps)[-1]: hidden}
    if isinstance(model, EncoderDecoder):
        ends["encoder"] = model.encode(given["input_ids"], given["attention_mask"])[0]
    return model(**given), ends, taps


def _tensor(name: str, array: Array) -> Any:
    import torch

    made = torch.from_numpy(np.ascontiguousarray(array))
    if name == "pixel_values":
        return made.permute(0, 3, 1, 2)
    return made.long()


def _output(made: Any) -> Any:
    import torch

    if getattr(made, "start_logits", None) is not None:
        return torch.stack([made.start_logits, made.end_logits], dim=-1)
    for name in ("logits", "prediction_logits"):
        if getattr(made, name, None) is not None:
            return getattr(made, name)
    return made.last_hidden_state
