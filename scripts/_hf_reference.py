"""Models of transformers with weights drawn from their names, and what they compute."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.hf.cases import NEW_TOKENS, Array, Case, inputs, prompt, weights


def make(case: Case) -> Any:
    """The model of a case; tensors that are tied are drawn once."""
    import torch
    import transformers

    cls = getattr(transformers, case.cls)
    # Only the plain implementation of attention has soft caps.
    config = cls.config_class(**case.config, attn_implementation="eager")
    model = cls(config).eval()
    for name, value in case.generation.items():
        setattr(model.generation_config, name, value)
    if case.untied is not None:
        owner, _, name = case.untied.rpartition(".")
        own = getattr(model.get_submodule(owner), name)
        setattr(model.get_submodule(owner), name, torch.nn.Parameter(own.detach().clone()))
    drawn = weights(shapes(model, case))
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    if not drawn.keys() <= own.keys():
        return _loaded(cls, model, drawn)
    with torch.no_grad():
        for name, array in drawn.items():
            own[name].copy_(torch.from_numpy(array))
    return model


def _loaded(cls: Any, model: Any, drawn: dict[str, Array]) -> Any:
    """The same model with tensors that its files call by other names than itself."""
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        save_file(drawn, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        return cls.from_pretrained(folder, attn_implementation="eager").eval()


def shapes(model: Any, case: Case) -> dict[str, tuple[int, ...]]:
    """Of the tensors that its checkpoint holds, without tables that nothing moves (sines)."""
    from safetensors import safe_open

    fixed = {name for name, own in model.named_parameters() if not own.requires_grad}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with safe_open(Path(folder) / "model.safetensors", framework="numpy") as file:
            names = [name for name in file.keys() if name not in fixed]  # noqa: SIM118
            names = [name for name in names if not name.endswith(case.computed)]
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}


def run(model: Any, case: Case) -> dict[str, Array]:
    """What the model gives for the case's inputs: `output`, and `tokens` where it generates."""
    import torch

    given = {name: torch.from_numpy(array) for name, array in inputs(case).items()}
    given = {n: a.long() if a.dtype == torch.int32 else a for n, a in given.items()}
    if case.takes == "image":
        given["pixel_values"] = given["pixel_values"].permute(0, 3, 1, 2)
    with torch.no_grad():
        made = model(**given)
        results = {"output": _output(made).float().numpy()}
        if case.generates:
            start = {n: torch.from_numpy(a).long() for n, a in prompt(case).items()}
            # `generate` counts from 0 where RoBERTa, called, counts from behind the padding's.
            embeddings = getattr(model.base_model, "embeddings", None)
            if hasattr(embeddings, "create_position_ids_from_input_ids"):
                start["position_ids"] = embeddings.create_position_ids_from_input_ids(
                    start["input_ids"], model.config.pad_token_id
                )
            tokens = model.generate(
                **start, max_new_tokens=NEW_TOKENS, do_sample=False, num_beams=1, eos_token_id=None
            )
            results["tokens"] = tokens.numpy().astype(np.int32)
    return results


def _output(made: Any) -> Any:
    import torch

    if getattr(made, "start_logits", None) is not None:
        return torch.stack([made.start_logits, made.end_logits], dim=-1)
    logits = getattr(made, "logits", None)
    return made.last_hidden_state if logits is None else logits
