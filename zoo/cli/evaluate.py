"""`zoo evaluate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Annotated, Any

import tyro

from zoo.cli.flags import parse, parse_typed, value_of
from zoo.data.config import DataConfig
from zoo.errors import ConfigError, choices, near_matches
from zoo.files import dumps
from zoo.settings import at_least
from zoo.tables import pairs
from zoo.training.config import TrainConfig

# Flags of each kind of evaluation, beside --from, --task and --json.
_TEXT = ("text", "window", "stride", "bos")
_PAIRS = ("pairs",)
_LM_EVAL = ("lm_eval", "lm_eval_path", "lm_eval_shots", "lm_eval_limit")
SIMILARITY = "sentence_similarity"
_NEEDED = {
    **dict.fromkeys(_TEXT, "--text FILE"),
    **dict.fromkeys(_PAIRS, f"--task {SIMILARITY}"),
    **dict.fromkeys(_LM_EVAL, "--lm-eval TASKS"),
}


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Figures of a checkpoint. Of a run's newest one on held-out text: the run's own, or another
    given by the flags under data, whose defaults are the run's, read by the tokenizer that the run
    keeps; with BLEU and chrF of translations, F1 and Matthews' correlation of labels, and how they
    were made. Of any checkpoint, also of the Hugging Face library, perplexity on a file, how its
    sentence vectors rank pairs, or what it reaches in tasks of EleutherAI's lm-eval.

        zoo evaluate --from runs/a
        zoo evaluate --from runs/translation --num-beams 4
        zoo evaluate --from openai-community/gpt2 --text book.txt --window 1024 --stride 512
        zoo evaluate --from runs/a --task sentence_similarity --pairs sts.tsv
        zoo evaluate --from runs/a --lm-eval lambada_openai,piqa
    """

    from_: Annotated[str, tyro.conf.arg(name="from")]
    """The workdir of a run, a folder or repo id of a Hugging Face checkpoint."""
    task: str = "language_model"
    """What to measure: of a run a name of `zoo list tasks`; or sentence_similarity."""
    max_batches: int | None = None
    """Batches of a run's held-out text, evenly spaced; default: all of it."""
    num_beams: int = 1
    """Beams of the search for a run's translations; 1: the likeliest token each time."""
    text: str | None = None
    """A text file to measure perplexity on, token by token; pseudo-perplexity of a masked language
    model, each token masked in turn."""
    window: int | None = None
    """Tokens that the model reads at once; default: what it can, at most 1024 (masked: 128)."""
    stride: int | None = None
    """Tokens from one window to the next, the ones that are scored; default: half a window."""
    bos: bool | None = None
    """Whether each window opens with the begin token; default: where the checkpoint has one."""
    pairs: str | None = None
    """For sentence_similarity: a tab-separated file of sentence1, sentence2, score."""
    lm_eval: str | None = None
    """Tasks of lm-eval, with commas between them; its data comes from the Hub unless a task says
    otherwise."""
    lm_eval_path: str | None = None
    """A folder of lm-eval task files of your own (YAML)."""
    lm_eval_shots: int | None = None
    """Solved examples in front of each question; default: as each task says."""
    lm_eval_limit: int | None = None
    """Examples of each task, from its beginning; default: all."""
    json: bool = False
    """Print JSON."""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)


def run(args: Sequence[str]) -> int:
    folder = value_of("from", args)
    if folder is None:
        # Nothing to take defaults from; this says so, or shows the help.
        parse(EvaluateOptions, args, command="evaluate")
        raise ConfigError("--from DIR is missing; see zoo evaluate --help")
    base = _config(folder)
    defaults = EvaluateOptions(folder)
    if base is not None:
        defaults = EvaluateOptions(folder, task=base.task, data=base.data)
    options, typed = parse_typed(EvaluateOptions, args, command="evaluate", default=defaults)
    if options.lm_eval is not None:
        return _lm_eval(options, typed - {"from", "json"})
    figures = _figures(options, typed - {"from", "task", "json"}, base)
    print(dumps(figures, indent=2) if options.json else pairs(figures))
    return 0


def _config(folder: str) -> TrainConfig | None:
    """What a workdir was trained with; None for another checkpoint."""
    from zoo.checkpoints.pretrained import read_config
    from zoo.hf.files import is_workdir, locate, read_json
    from zoo.training.config import from_dict

    local = locate(folder)
    return from_dict(read_config(local)) if is_workdir(read_json(local / "config.json")) else None


def _lm_eval(options: EvaluateOptions, typed: Collection[str]) -> int:
    """Prints lm-eval's own table."""
    _only(typed, _LM_EVAL, "--lm-eval")
    for name in ("lm_eval_limit", "lm_eval_shots"):
        at_least(name, getattr(options, name), 1 if name == "lm_eval_limit" else 0)
    from zoo.evaluation.lm_eval import as_table, evaluate_tasks

    found = evaluate_tasks(
        options.from_,
        [name.strip() for name in str(options.lm_eval).split(",")],
        folder=options.lm_eval_path,
        shots=options.lm_eval_shots,
        limit=options.lm_eval_limit,
    )
    print(
        dumps(found, indent=2) if options.json else f"{as_table(found)}\n{pairs(found['protocol'])}"
    )
    return 0


def _figures(
    options: EvaluateOptions, typed: Collection[str], base: TrainConfig | None
) -> dict[str, Any]:
    if options.task == SIMILARITY:
        from zoo.evaluation.similarity import evaluate_pairs

        _only(typed, _PAIRS, f"--task {SIMILARITY}")
        if options.pairs is None:
            raise ConfigError(f"task = {SIMILARITY!r} needs --pairs FILE.tsv")
        return evaluate_pairs(options.from_, options.pairs)
    if options.text is not None:
        from zoo.evaluation.perplexity import evaluate_text

        _only(typed, _TEXT, "--text")
        return evaluate_text(
            options.from_,
            options.text,
            window=options.window,
            stride=options.stride,
            bos=options.bos,
        )
    if base is None:
        raise ConfigError(
            f"{options.from_} is no workdir of zoo train, so it has no held-out text of its own; "
            f"give --text FILE, --lm-eval TASKS, or --task {SIMILARITY} --pairs FILE.tsv"
        )
    return _of_run(options, typed, base)


def _of_run(options: EvaluateOptions, typed: Collection[str], base: TrainConfig) -> dict[str, Any]:
    from zoo.tasks import TASKS
    from zoo.training.evaluate import evaluate_workdir

    unused = [name for name in _NEEDED if name in typed]
    if unused:
        flag = unused[0].replace("_", "-")
        raise ConfigError(f"--{flag} has no effect without {_NEEDED[unused[0]]}")
    if options.task not in TASKS:
        accepted = [*TASKS, SIMILARITY]
        hint = near_matches(options.task, accepted)
        raise ConfigError(f"task = {options.task!r} is not known{hint}; tasks: {choices(accepted)}")
    if options.max_batches is not None and options.max_batches < 1:
        raise ConfigError(f"max_batches = {options.max_batches}; use 1 or more")
    options.data.validate()
    config = dataclasses.replace(base, task=options.task, data=options.data)
    return evaluate_workdir(
        options.from_, config=config, max_batches=options.max_batches, num_beams=options.num_beams
    )


def _only(typed: Collection[str], used: Sequence[str], what: str) -> None:
    for name in sorted(typed):
        if name not in used:
            raise ConfigError(f"--{name.replace('_', '-')} has no effect with {what}")
