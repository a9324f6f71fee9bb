"""The model card of an export: what the model is, how it was trained, how to load it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from zoo.data.config import KINDS, PROBE_KINDS, reads
from zoo.layers import weight
from zoo.models.config import ModelConfig
from zoo.models.stages import parts
from zoo.models.tower import Transformer
from zoo.tasks import TASKS
from zoo.training.config import TrainConfig
from zoo.variants.describe import Description
from zoo.variants.registry import get_variant, is_known

# What the hub calls the use of a head.
_USES = {
    "language_model": "text-generation",
    "masked_lm": "fill-mask",
    "sequence_classification": "text-classification",
    "token_classification": "token-classification",
    "span": "question-answering",
    "sentence_embedding": "sentence-similarity",
    "image_classification": "image-classification",
}
_FIGURES = ("steps", "tokens", "loss", "wall_time_s", "best_step")


def card(
    model: Transformer,
    *,
    name: str,
    config: Mapping[str, Any],
    declined: str | None,
    run: TrainConfig | None,
    summary: Mapping[str, Any] | None,
    tokenizer: bool,
) -> str:
    """`README.md` of an exported model.

    Args:
        name: of the model, for its title and the examples.
        config: the `config.json` that is written beside it.
        declined: why it is in no format of transformers; None if it is.
        run: what it was trained with; None if that is not known.
        summary: of the run; None if it has not ended.
        tokenizer: whether one lies beside it.
    """
    blocks = [
        _front(model.config, readable=declined is None),
        f"# {name}",
        _opening(model, config, declined),
        "## Where its norms stand",
        _placement(model),
        "## Architecture",
        _rows(_architecture(model)),
    ]
    if run is not None:
        blocks += ["## Training", _rows(_training(run)), "## Figures", _figures(run, summary)]
    blocks += ["## Use", *_examples(name, config, declined, tokenizer=tokenizer)]
    return "\n\n".join(blocks) + "\n"


def _front(config: ModelConfig, *, readable: bool) -> str:
    use = _USES.get(config.head or "none")
    if config.architecture == "encoder_decoder":
        use = None  # translation, summaries or something else: the run does not say
    tags = ["postnorm-zoo", "jax", "flax", config.variant.split("(")[0]]
    return "\n".join(
        [
            "---",
            f"library_name: {'transformers' if readable else 'postnorm-zoo'}",
            *([f"pipeline_tag: {use}"] if use else []),
            "tags:",
            *(f"- {tag}" for tag in tags),
            "---",
        ]
    )


def _opening(model: Transformer, config: Mapping[str, Any], declined: str | None) -> str:
    own = model.config
    what = own.architecture.replace("_", "-")
    head = "" if own.head in (None, "none") else f" with the head `{own.head}`"
    lines = [f"A Transformer {what}{head}, placement `{own.variant}`, written by Postnorm Zoo."]
    if declined is None:
        named = ", ".join(config.get("architectures", []))
        lines.append(f"Its files are those of the `{config['model_type']}` family ({named}).")
    else:
        lines.append(f"Its files are in the `{config['model_type']}` format: {declined}.")
    return "\n".join(lines)


def _placement(model: Transformer) -> str:
    """What `zoo describe` says of it at this depth."""
    variant = model.config.variant
    if not is_known(variant):
        return f"`{variant}` is a placement of the author's; `config.json` holds all its numbers."
    described = Description(
        get_variant(variant),
        model.config.architecture,
        model.config.d_model,
        model.placement,
        widths={name: own.d_model for name, own in parts(model.config).items()},
    )
    return f"```text\n{described}\n```"


def _architecture(model: Transformer) -> Iterator[tuple[str, object]]:
    config, sizes = model.config, model.config.sizes()
    params, _ = weight.split(model)
    yield "parameters", f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,}"
    yield "architecture", config.architecture
    for stack, own in parts(config).items():
        yield f"layers ({stack})", own.depth(stack)
    # Of a model in stages each has its own, from the lowest up.
    each = list(parts(config).values())
    heads = (f"{own.num_heads} ({own.sizes().num_kv_heads} for keys and values)" for own in each)
    yield "d_model", _listed(own.d_model for own in each)
    yield "d_ff", _listed(own.sizes().d_ff for own in each) + (" (gated)" if config.gated else "")
    yield "heads", _listed(heads)
    yield "norm", f"{config.norm}, eps {config.norm_eps:g}"
    yield "activation", config.activation
    yield "positions", config.positions
    if config.architecture == "vision":
        yield "images", f"{config.image_size} x {config.image_size}, {config.num_channels} channels"
        yield "patches", config.patch_size
    else:
        yield "vocabulary", sizes.vocab_size
        yield "longest text", sizes.max_length
        yield "tied embeddings", "yes" if config.tie_embeddings else "no"
    if (config.head or "none").endswith("_classification"):
        yield "labels", sizes.num_labels


def _listed(values: Iterable[object]) -> str:
    """One value where all are the same."""
    texts = [str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


def _training(run: TrainConfig) -> Iterator[tuple[str, object]]:
    data, optim = run.data, run.optim
    yield "task", run.task
    yield "data", _source(run)
    if reads(TASKS[run.task].rows, "tokenizer"):
        yield "tokenizer", Path(data.tokenizer).name
    yield "batch", f"{data.batch_size} rows of {data.length}"
    yield "steps", run.steps
    yield "optimizer", optim.name
    yield "learning rate", f"{optim.lr:g}, {optim.schedule}" if optim.lr else optim.schedule
    yield "warm-up", f"{optim.warmup} steps"
    yield "weight decay", optim.weight_decay
    for name in ("beta1", "beta2", "clip_norm", "ema"):
        value = getattr(optim, name)
        if value is not None:
            yield name, value
    for name in ("label_smoothing", "z_loss"):
        if getattr(optim, name):
            yield name, getattr(optim, name)
    if optim.layer_lr_decay != 1.0:
        yield "layer_lr_decay", optim.layer_lr_decay
    if optim.freeze:
        yield "frozen", ", ".join(optim.freeze)
    for name in ("dropout", "attention_dropout", "stochastic_depth"):
        if getattr(run.model, name):
            yield name, getattr(run.model, name)
    if run.init_from is not None:
        yield "started from", Path(run.init_from).name
    yield "seed", run.seed


def _source(run: TrainConfig) -> str:
    """The data's name; of a path its last part, as the rest says more of the author's machine."""
    data = run.data
    if data.dataset is not None:
        parts = (data.dataset, data.dataset_config, data.dataset_split)
        return " · ".join(part for part in parts if part)
    if data.path is not None:
        return Path(data.path).name
    kind = TASKS[run.task].rows
    if kind in PROBE_KINDS:
        return f"{KINDS[kind]}, generated"
    if kind == "images":
        return "scikit-learn's handwritten digits"
    return "source of the Python standard library"


def _figures(run: TrainConfig, summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "The run has not ended, so there are none."
    shown: dict[str, object] = {"status": summary["status"]}
    for name, value in summary.items():
        if name in _FIGURES or name.startswith(("eval_", "best_eval_")):
            shown[name] = f"{value:.6g}" if isinstance(value, float) else value
    shown |= summary.get("protocol", {})
    batches = "all" if run.eval_batches is None else run.eval_batches
    held = (
        f"`eval_…` is of held-out data ({batches} batches of {run.data.batch_size} rows of "
        f"{run.data.length}, each read by itself), `best_eval_…` of the step at which its loss was "
        "least."
    )
    return f"{_rows(shown.items())}\n\n{held}"


def _examples(
    name: str, config: Mapping[str, Any], declined: str | None, *, tokenizer: bool
) -> Iterator[str]:
    text = 'tokenizer = zoo.load_tokenizer("{name}")\n' if tokenizer else ""
    yield (
        "```python\n"
        "import zoo  # pip install postnorm-zoo\n\n"
        f'model = zoo.load_pretrained("{name}")  # this folder; or its repo id\n'
        f"{text.format(name=name)}```"
    )
    if declined is None:
        auto = "AutoTokenizer.from_pretrained"
        for cls in config.get("architectures", [])[:1]:
            yield (
                "```python\n"
                f"from transformers import {'AutoTokenizer, ' if tokenizer else ''}{cls}\n\n"
                f'model = {cls}.from_pretrained("{name}")\n'
                f"{text.format(name=name).replace('zoo.load_tokenizer', auto)}```"
            )


def _rows(pairs: Any) -> str:
    lines = [f"| {name} | {value} |" for name, value in pairs]
    return "\n".join(["| | |", "|---|---|", *lines])
