"""A whole run's settings, and how the open ones are filled: recipe, text, length of the run."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import re
import traceback
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from zoo.checkpoints import CheckpointConfig
from zoo.data.config import DataConfig, check_kind, reads
from zoo.errors import ConfigError, ZooError, choices, near_matches
from zoo.models.config import ModelConfig
from zoo.models.resolve import resolve as resolve_model
from zoo.settings import at_least, check_types, flatten
from zoo.tasks import TASKS
from zoo.training.fit import check_ends, check_task
from zoo.training.optim_config import OptimConfig, optimizer_defaults
from zoo.training.schedules import recipe_warmup
from zoo.training.sharding import MeshConfig
from zoo.variants.registry import get_variant
from zoo.variants.variant import Recipe

T = TypeVar("T")

# What a config file gets wrong by its own doing; anything else is no longer its author's fault.
_OWN_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError),
    *(OSError, SyntaxError, TypeError, ValueError),
)


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
    """Start from trained weights: a Hugging Face folder or repo id, a folder of `zoo export`, or
    the workdir of a run (workdir@step); model and tokenizer then come from there too."""
    parallel: Literal["jit", "pmap"] = "jit"
    """jit over a mesh of all devices, or pmap over the local ones."""
    log_every: int = 10
    """Steps between two lines of metrics."""
    eval_every: int | None = None
    """Steps between two evaluations; default: a tenth of the run."""
    eval_batches: int | None = 32
    """Batches of held-out text in an evaluation, evenly spaced; None: all."""
    judge: bool = True
    """At the end, score what the model itself writes or ranks on the same held-out rows: BLEU and
    chrF of translations, F1 and Matthews' correlation of labels."""
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

    def __post_init__(self) -> None:
        # A shell leaves the ~ of `--workdir=~/a` as it is. What is no text is refused later.
        if isinstance(self.workdir, str):
            object.__setattr__(self, "workdir", os.path.expanduser(self.workdir))

    def validate(self) -> None:
        """Raise ConfigError, VariantError or DataError for what no text could make right."""
        check_types(self)
        if not self.workdir.strip():
            raise ConfigError(f"workdir = {self.workdir!r}: name a folder, such as runs/a")
        for field in ("steps", "log_every", "eval_every", "eval_batches"):
            at_least(field, getattr(self, field), 1)
        at_least("sample_tokens", self.sample_tokens, 0)
        for field in ("seed", "data_seed"):
            value = getattr(self, field)
            if value is not None and not 0 <= value < 2**32:
                raise ConfigError(f"{field} = {value}: a seed lies in 0 to 2^32 - 1")
        if not self.sample_temperature >= 0.0:
            raise ConfigError(f"sample_temperature = {self.sample_temperature}: use 0 or more")
        if self.task not in TASKS:
            hint = near_matches(self.task, TASKS)
            raise ConfigError(f"task = {self.task!r} is not known{hint}; tasks: {choices(TASKS)}")
        check_task(self.task, self.model)
        if self.parallel == "pmap" and self.mesh.fsdp != 1:
            raise ConfigError(
                f"mesh.fsdp = {self.mesh.fsdp} with parallel = 'pmap': pmap replicates parameters; "
                "use parallel = 'jit' to shard them"
            )
        self.data.validate()
        check_kind(self.data, TASKS[self.task].rows)
        if self.data.framing != "own" and not TASKS[self.task].framed:
            framed = [repr(name) for name, task in TASKS.items() if task.framed]
            raise ConfigError(
                f"data.framing = {self.data.framing!r} has no effect on task = {self.task!r}; "
                f"it is for {choices(framed)}"
            )
        self.optim.validate(self.steps)
        _resolved_model(self)
        if not reads(TASKS[self.task].rows, "length"):
            return
        longest = self.model.max_length
        for field in ("length", "target_length"):
            length = getattr(self.data, field)
            if longest is not None and length is not None and length > longest:
                raise ConfigError(
                    f"data.{field} = {length} is longer than model.max_length = {longest}; "
                    f"use at most {longest}, or leave model.max_length out"
                )
        window = self.model.window
        if window is not None and window > self.data.length:
            raise ConfigError(
                f"model.window = {window} is longer than data.length = {self.data.length}; "
                f"use at most {self.data.length}"
            )


_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (TrainConfig, ModelConfig, DataConfig, OptimConfig, CheckpointConfig, MeshConfig)
}
# What fills a field that is left open, where that is not the rest of the run.
_OPEN = {
    "model.vocab_size": "text",
    "model.num_labels": "text",
    "model.decoder_start_id": "text",
    "model.embedding_norm": "variant",
    "model.final_norm": "variant",
    "model.qk_norm": "variant",
}
_UNKNOWN_FIELD = re.compile(
    r"(?P<kind>\w+)\.__init__\(\) got an unexpected keyword argument '(?P<field>\w+)'"
)


def resolve_run(
    config: TrainConfig,
    *,
    vocab_size: int | None = None,
    num_labels: int | None = None,
    decoder_start_id: int | None = None,
    image: tuple[int, int, int] | None = None,
) -> TrainConfig:
    """The same run with nothing left open.

    Args:
        vocab_size, num_labels, decoder_start_id, image: of the data, see
            `zoo.training.fit.ends`; None where it has not been opened, or has none.

    Raises:
        ZooError: on whatever cannot work.
    """
    return _resolve(config, vocab_size, num_labels, decoder_start_id, image)[0]


def begin_of(config: TrainConfig) -> int | None:
    """The token that targets begin behind, where the run's checkpoint has one."""
    return None if config.init_from is None else config.model.decoder_start_id


def origins(
    asked: TrainConfig, *, typed: Collection[str] = (), **data: Any
) -> dict[str, tuple[Any, str]]:
    """Every dotted field of the resolved run with its value and where it came from.

    Args:
        asked: what the user gave, before resolving.
        typed: dotted fields that were given as flags.
        data: as in `resolve_run`.

    Returns:
        field to (value, origin). A field that was left open has the origin of what filled it:
        `recipe`, `optimizer` (its default), `variant`, `text`, `run` (follows from other fields)
        or `default`. Of the others one that was typed is a `flag`, one that differs from the
        default was set by the `config` file, and the rest is `default`: so is a value that the
        file sets to what it is anyway.

    Raises:
        ZooError: on whatever cannot work.
    """
    resolved, filled = _resolve(asked, **data)
    given, plain = flatten(asked), flatten(TrainConfig())

    def origin(field: str) -> str:
        if field in filled:
            return filled[field]
        if field in typed:
            return "flag"
        return "default" if given[field] == plain[field] else "config"

    return {field: (value, origin(field)) for field, value in flatten(resolved).items()}


def resolve_optim(
    optim: OptimConfig, recipe: Recipe, steps: int
) -> tuple[OptimConfig, dict[str, str]]:
    """Fill what is None: from the recipe, else from the optimizer's defaults, else from ours.

    Returns:
        (filled, origin of each field that was None: `recipe`, `optimizer` or `default`).

    Raises:
        ConfigError: when the result cannot work in a run of `steps`.
    """
    # A recipe's rate, betas and decay were found with Adam and mean nothing to the others.
    adam = optim.name == "adamw"
    sources: dict[str, dict[str, Any]] = {
        "recipe": {
            "lr": recipe.lr if adam else None,
            "weight_decay": recipe.weight_decay if adam else None,
            "beta2": recipe.beta2 if adam else None,
            "schedule": recipe.schedule,
            "clip_norm": recipe.clip_norm,
            "warmup": _warmup(recipe, steps),
        },
        "optimizer": dict(optimizer_defaults(optim.name)),
        "default": {"schedule": "cosine", "clip_norm": 1.0, "warmup": min(100, steps // 4)},
    }
    values: dict[str, Any] = {}
    came_from: dict[str, str] = {}
    for field in ("lr", "weight_decay", "beta1", "beta2", "schedule", "clip_norm", "warmup"):
        if getattr(optim, field) is None:
            # A beta that nobody gives is one that the optimizer does not read.
            known = (name for name in sources if sources[name].get(field) is not None)
            came_from[field] = next(known, "optimizer")
            values[field] = sources[came_from[field]].get(field)
    resolved = dataclasses.replace(optim, **values)
    resolved.validate(steps)
    return resolved, came_from


def from_dict(saved: Mapping[str, Any]) -> TrainConfig:
    """The config that `dataclasses.asdict` wrote to JSON; ConfigError on an unknown field."""
    made: TrainConfig = _build(TrainConfig, saved, "")
    return made


def load_config(path: str | Path) -> TrainConfig:
    """The `config()` of a Python file.

    Raises:
        ConfigError: when the file is missing, does not run (naming the line), or returns
            something else.
    """
    file = Path(path)
    made = run_config_file(file, TrainConfig)
    with _blaming(file):
        check_types(made)
    return made


def run_config_file(path: str | Path, kind: type[T]) -> T:
    """What the `config()` of a Python file returns, an instance of `kind`.

    Raises:
        ConfigError: as `load_config`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"config {file}: no such file{_near_files(file)}")
    spec = importlib.util.spec_from_file_location("zoo_user_config", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"config {file}: not a Python file; its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    with _blaming(file):
        spec.loader.exec_module(module)
    if not callable(getattr(module, "config", None)):
        raise ConfigError(f"config {file} has no function config() that returns a {kind.__name__}")
    with _blaming(file):
        made = module.config()
    if not isinstance(made, kind):
        raise ConfigError(
            f"config {file}: config() returns a {type(made).__name__}, not a {kind.__name__}"
        )
    return made


def _resolve(
    config: TrainConfig,
    vocab_size: int | None = None,
    num_labels: int | None = None,
    decoder_start_id: int | None = None,
    image: tuple[int, int, int] | None = None,
) -> tuple[TrainConfig, dict[str, str]]:
    """(the run with nothing left open, where each field that was open got its value)."""
    config.validate()
    ends = {
        "vocab_size": vocab_size,
        "num_labels": num_labels,
        "decoder_start_id": decoder_start_id,
    }
    check_ends(config.model, **ends, image=image)
    recipe = get_variant(config.model.variant).recipe
    optim, came_from = resolve_optim(config.optim, recipe, config.steps)
    every = config.eval_every or max(1, config.steps // 10)
    resolved = dataclasses.replace(
        config,
        data_seed=config.seed if config.data_seed is None else config.data_seed,
        eval_every=every,
        model=_resolved_model(config, **ends),
        optim=optim,
        checkpoint=dataclasses.replace(config.checkpoint, every=config.checkpoint.every or every),
    )
    filled = {f"optim.{field}": origin for field, origin in came_from.items()}
    values = flatten(resolved)
    for field, value in flatten(config).items():
        if value is None and values[field] is not None and field not in filled:
            filled[field] = _OPEN.get(field, "run")
    return resolved, filled


def _resolved_model(config: TrainConfig, **ends: int | None) -> ModelConfig:
    """The run's model; what `create_model` calls d_model is model.d_model here."""
    filled: dict[str, Any] = {
        field: end for field, end in ends.items() if getattr(config.model, field) is None
    }
    model = dataclasses.replace(
        config.model,
        **filled,
        max_length=_max_length(config),
    )
    try:
        return resolve_model(model)
    except ConfigError as error:
        names = "|".join(field.name for field in dataclasses.fields(ModelConfig))
        message = re.sub(rf"(?<![\w.])({names})(?= = )", r"model.\1", str(error))
        raise ConfigError(message) from error


def _max_length(config: TrainConfig) -> int | None:
    """Positions of the model: what was asked for, or enough for a row."""
    if config.model.architecture == "vision":
        return config.model.max_length
    return config.model.max_length or max(512, config.data.length, config.data.target_length or 0)


def _warmup(recipe: Recipe, steps: int) -> int | None:
    if recipe.warmup is not None:
        return recipe_warmup(recipe.warmup, steps)
    if recipe.warmup_fraction is not None:
        return recipe_warmup(round(recipe.warmup_fraction * steps), steps)
    return None


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


@contextlib.contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Errors of a config file as one ConfigError with the file and the line."""
    try:
        yield
    except _OWN_ERRORS as error:
        raise ConfigError(f"config {file}{_line(file, error)} {_reason(error)}") from error


def _line(file: Path, error: BaseException) -> str:
    """`, line 7`: the last line of the file that was running, or that cannot be parsed."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [(frame.filename, frame.lineno) for frame in frames]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    own = [line for name, line in places if line and Path(name).resolve() == file.resolve()]
    return f", line {own[-1]}," if own else ""


def _reason(error: BaseException) -> str:
    if isinstance(error, ZooError):
        return f"asks for what cannot work: {error}"
    unknown = _UNKNOWN_FIELD.match(str(error))
    kind = _KINDS.get(unknown["kind"]) if unknown else None
    if unknown is not None and kind is not None:
        fields = [field.name for field in dataclasses.fields(kind)]
        hint = near_matches(unknown["field"], fields) or _elsewhere(unknown["field"])
        return f"sets an unknown field: {kind.__name__} has no {unknown['field']}{hint}"
    words = error.msg if isinstance(error, SyntaxError) else error
    return f"does not run: {type(error).__name__}: {words}"


def _elsewhere(field: str) -> str:
    """Where a field of that name stands, when it is another config's."""
    found = [name for name in flatten(TrainConfig()) if name.rpartition(".")[2] == field]
    return f" (did you mean {choices(found)}?)" if found else ""


def _near_files(file: Path) -> str:
    names: Iterator[str] = (path.name for path in file.parent.glob("*.py"))
    return near_matches(file.name, names)
