"""A whole run's settings, and how the open ones are filled: recipe, text, length of the run."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from zoo.checkpoints import CheckpointConfig
from zoo.data.config import DataConfig
from zoo.errors import ConfigError, choices, near_matches
from zoo.models.config import ModelConfig
from zoo.models.config import resolve as resolve_model
from zoo.tasks import TASKS
from zoo.training.optim_config import OptimConfig, optimizer_defaults
from zoo.training.schedules import recipe_warmup
from zoo.training.sharding import MeshConfig
from zoo.variants.registry import get_variant
from zoo.variants.variant import Recipe


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    workdir: str = "runs/default"
    """Folder of the run: config, metrics, checkpoints, summary, plot."""
    steps: int = 600
    """Optimizer steps."""
    seed: int = 0
    """Of initialisation and dropout."""
    data_seed: int | None = None
    """Of the order of the training text; default: seed."""
    task: str = "language_model"
    """What is learnt; see `zoo list tasks`."""
    init_from: str | None = None
    """Start from the weights of another run: its workdir, or workdir@step."""
    parallel: Literal["jit", "pmap"] = "jit"
    """jit over a mesh of all devices, or pmap over the local ones."""
    log_every: int = 10
    """Steps between two lines of metrics."""
    eval_every: int | None = None
    """Steps between two evaluations; default: a tenth of the run."""
    eval_batches: int | None = 32
    """Batches of held-out text in an evaluation, evenly spaced; None: all."""
    sample_tokens: int = 300
    """Tokens of the sample at the end; 0: none."""
    sample_temperature: float = 0.7
    """Temperature of the sample; 0 is greedy."""
    sample_prompt: str = "def "
    """What the sample goes on from."""
    tensorboard: bool = True
    """Write TensorBoard events beside metrics.jsonl."""
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)

    def validate(self) -> None:
        """Raise ConfigError, VariantError or DataError for what no text could make right."""
        for field in ("steps", "log_every"):
            _at_least(field, getattr(self, field), 1)
        for field in ("eval_every", "eval_batches"):
            if getattr(self, field) is not None:
                _at_least(field, getattr(self, field), 1)
        _at_least("sample_tokens", self.sample_tokens, 0)
        for field in ("seed", "data_seed"):
            value = getattr(self, field)
            if value is not None and not 0 <= value < 2**32:
                raise ConfigError(f"{field} = {value}: a seed lies in 0 to 2^32 - 1")
        if self.sample_temperature < 0.0:
            raise ConfigError(f"sample_temperature = {self.sample_temperature}: use 0 or more")
        if self.task not in TASKS:
            hint = near_matches(self.task, TASKS)
            raise ConfigError(f"task = {self.task!r} is not known{hint}; tasks: {choices(TASKS)}")
        if self.parallel not in ("jit", "pmap"):
            raise ConfigError(f"parallel = {self.parallel!r}; use jit or pmap")
        if self.parallel == "pmap" and self.mesh.fsdp != 1:
            raise ConfigError(
                f"mesh.fsdp = {self.mesh.fsdp} with parallel = 'pmap': pmap replicates parameters; "
                "use parallel = 'jit' to shard them"
            )
        self.data.validate()
        self.optim.validate(self.steps)
        resolve_model(dataclasses.replace(self.model, max_length=_max_length(self)))
        longest = self.model.max_length
        if longest is not None and self.data.length > longest:
            raise ConfigError(
                f"data.length = {self.data.length} is longer than model.max_length = {longest}; "
                f"use at most {longest}, or leave model.max_length out"
            )
        window = self.model.window
        if window is not None and window > self.data.length:
            raise ConfigError(
                f"model.window = {window} is longer than data.length = {self.data.length}; "
                f"use at most {self.data.length}"
            )


def resolve_run(config: TrainConfig, *, vocab_size: int | None = None) -> TrainConfig:
    """The same run with nothing left open.

    Args:
        vocab_size: of the text's tokenizer; None where the text has not been opened.

    Raises:
        ZooError: on whatever cannot work.
    """
    config.validate()
    known = config.model.vocab_size
    if known is not None and vocab_size is not None and known < vocab_size:
        raise ConfigError(
            f"model.vocab_size = {known} is smaller than the tokenizer's {vocab_size}; "
            "use that or more, or leave it out"
        )
    model = dataclasses.replace(
        config.model,
        vocab_size=known or vocab_size,
        max_length=_max_length(config),
    )
    recipe = get_variant(config.model.variant).recipe
    tenth = max(1, config.steps // 10)
    every = config.eval_every or tenth
    return dataclasses.replace(
        config,
        data_seed=config.seed if config.data_seed is None else config.data_seed,
        eval_every=every,
        model=resolve_model(model),
        optim=resolve_optim(config.optim, recipe, config.steps),
        checkpoint=dataclasses.replace(config.checkpoint, every=config.checkpoint.every or every),
    )


def resolve_optim(optim: OptimConfig, recipe: Recipe, steps: int) -> OptimConfig:
    """Fill what is None: from the recipe, else from the optimizer's defaults."""
    defaults = optimizer_defaults(optim.name)
    # A recipe's rate, betas and decay were found with Adam and mean nothing to the others.
    adam = optim.name == "adamw"
    advised = {
        "lr": recipe.lr if adam else None,
        "weight_decay": recipe.weight_decay if adam else None,
        "beta2": recipe.beta2 if adam else None,
        "schedule": recipe.schedule,
        "clip_norm": recipe.clip_norm,
        "warmup": _warmup(recipe, steps),
    }
    general = defaults | {"schedule": "cosine", "clip_norm": 1.0, "warmup": min(100, steps // 4)}
    filled: dict[str, Any] = {}
    for field in ("lr", "weight_decay", "beta1", "beta2", "schedule", "clip_norm", "warmup"):
        if getattr(optim, field) is None:
            value = advised.get(field)
            filled[field] = general.get(field) if value is None else value
    resolved = dataclasses.replace(optim, **filled)
    resolved.validate(steps)
    return resolved


def origins(
    resolved: TrainConfig, asked: TrainConfig, base: TrainConfig
) -> dict[str, tuple[Any, str]]:
    """Every dotted field with its value and where it came from.

    Args:
        asked: what the user gave, before resolving.
        base: what the config file gave, before flags.

    Returns:
        field to (value, origin); origins are `flag`, `config`, `default`, `recipe`,
        `optimizer` (its default), `variant`, `text` and `run` (follows from other fields).
    """
    recipe = get_variant(asked.model.variant).recipe
    values, given = flatten(resolved), flatten(asked)
    file, plain = flatten(base), flatten(TrainConfig())
    found = {}
    for field, value in values.items():
        if given[field] != file[field]:
            origin = "flag"
        elif given[field] != plain[field]:
            origin = "config"
        elif value == plain[field]:
            origin = "default"
        else:
            origin = _filled_from(field, resolved, recipe)
        found[field] = (value, origin)
    return found


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dataclasses by dotted name."""
    leaves: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            leaves |= flatten(value, f"{prefix}{field.name}.")
        else:
            leaves[f"{prefix}{field.name}"] = value
    return leaves


def from_dict(saved: Mapping[str, Any]) -> TrainConfig:
    """The config that `dataclasses.asdict` wrote to JSON; ConfigError on an unknown field."""
    made: TrainConfig = _build(TrainConfig, saved, "")
    return made


def load_config(path: str | Path) -> TrainConfig:
    """The `config()` of a Python file.

    Raises:
        ConfigError: when the file is missing, does not run, or returns something else.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"config {file}: no such file{_near_files(file)}")
    spec = importlib.util.spec_from_file_location("zoo_user_config", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"config {file}: not a Python file; its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError) as error:
        raise ConfigError(f"config {file} does not run: {error}") from error
    if not callable(getattr(module, "config", None)):
        raise ConfigError(f"config {file} has no function config() that returns a TrainConfig")
    made = module.config()
    if not isinstance(made, TrainConfig):
        raise ConfigError(
            f"config {file}: config() returns a {type(made).__name__}, not a TrainConfig"
        )
    return made


def _max_length(config: TrainConfig) -> int:
    """Positions of the model: what was asked for, or enough for a row."""
    return config.model.max_length or max(512, config.data.length)


def _warmup(recipe: Recipe, steps: int) -> int | None:
    if recipe.warmup is not None:
        return recipe_warmup(recipe.warmup, steps)
    if recipe.warmup_fraction is not None:
        return recipe_warmup(round(recipe.warmup_fraction * steps), steps)
    return None


def _filled_from(field: str, resolved: TrainConfig, recipe: Recipe) -> str:
    room, _, name = field.rpartition(".")
    if field == "model.vocab_size":
        return "text"
    if room == "model":
        return "variant" if name in ("embedding_norm", "final_norm", "qk_norm") else "run"
    if room == "optim":
        advised = resolve_optim(OptimConfig(name=resolved.optim.name), recipe, resolved.steps)
        general = resolve_optim(OptimConfig(name=resolved.optim.name), Recipe(), resolved.steps)
        from_recipe = getattr(advised, name) != getattr(general, name) or name == "warmup"
        return "recipe" if from_recipe else "optimizer"
    return "run"


def _build(kind: Any, saved: Mapping[str, Any], prefix: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in saved:
        if name not in fields:
            raise ConfigError(f"unknown setting {prefix}{name}{near_matches(name, fields)}")
    values: dict[str, Any] = {}
    for name, value in saved.items():
        default = getattr(kind(), name)
        if dataclasses.is_dataclass(default):
            values[name] = _build(type(default), value, f"{prefix}{name}.")
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _near_files(file: Path) -> str:
    names: Iterator[str] = (path.name for path in file.parent.glob("*.py"))
    return near_matches(file.name, names)


def _at_least(field: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{field} = {value}; use {least} or more")
