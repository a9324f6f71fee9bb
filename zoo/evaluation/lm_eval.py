"""Any checkpoint as a model of EleutherAI's lm-eval, and its figures on tasks of that library.

Importing this registers the model there as `postnorm_zoo`, for
`lm_eval.simple_evaluate(model="postnorm_zoo", model_args="pretrained=DIR", ...)`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zoo.data.tokenizers import load_tokenizer
from zoo.decoding import Sampling
from zoo.environment import library
from zoo.errors import ConfigError, DataError, choices, near_matches
from zoo.evaluation.continuations import MOST_ROWS, Done, check_writes, score, write
from zoo.evaluation.perplexity import begin_token
from zoo.hf.files import locate
from zoo.hf.pretrained import load_pretrained
from zoo.training.prompts import prompts_of

library("lm_eval", "lm-eval")  # says which package, where it is missing
from lm_eval.api.model import TemplateLM  # noqa: E402
from lm_eval.api.registry import register_model  # noqa: E402

# Names that tasks give to the number of tokens to write, the one that is used first.
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_MOST_WRITTEN = 256  # where a task says nothing, as lm-eval's own models
_OF_DRAWS = ("top_k", "top_p", "min_p")
_SAMPLING = {field.name for field in dataclasses.fields(Sampling)}


@register_model("postnorm_zoo")
class ZooLM(TemplateLM):  # type: ignore[misc]
    """A decoder or an encoder-decoder of language.

    Contexts have the special tokens that `zoo generate` puts around a prompt. What has no context
    stands behind those in front of it, the checkpoint's begin token, or the one that ends a text;
    where there is none of them (bytes), its first token is not scored.
    """

    def __init__(
        self,
        pretrained: str | Path,
        *,
        batch_size: int | str | None = None,
        seed: int = 0,
        **_: Any,
    ) -> None:
        """Load a checkpoint.

        Args:
            pretrained: what `load_pretrained` takes, with a tokenizer in the folder.
            batch_size: rows that are read at once, at most; `auto`: 16.
            seed: of draws, in tasks that ask for them.

        Raises:
            ZooError: when there is nothing to load, or it continues no text.
        """
        super().__init__()
        folder = locate(pretrained)
        self.model, self.tokens = load_pretrained(folder), load_tokenizer(folder)
        check_writes(self.model)
        self.prompts = prompts_of(folder, self.model, self.tokens)
        self.pairs = self.model.config.architecture == "encoder_decoder"
        self.backend = "seq2seq" if self.pairs else "causal"
        begin, known = begin_token(folder, self.tokens), self.model.config.sizes().vocab_size
        first = [begin, *self.prompts.ends[:1]]
        # An id beyond the vocabulary is in some configs by default.
        opening = [token for token in first if token is not None and token < known][:1]
        self.opening = list(self.prompts.before) or opening
        self.rows = MOST_ROWS if batch_size in (None, "auto") else int(batch_size or MOST_ROWS)
        self.seed = seed

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at once."""
        return self.model.config.sizes().max_length

    @property
    def eot_token_id(self) -> int | None:
        """The token that ends a text; None where there is none."""
        return self.prompts.ends[0] if self.prompts.ends else None

    @property
    def prefix_token_id(self) -> int | None:
        """What a text without a context stands behind; None where there is no such token."""
        return self.opening[-1] if self.opening else None

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """The tokens of a text, with those that open a prompt unless it begins with them."""
        ids: list[int] = self.tokens.encode(string.encode()).tolist()
        before = [] if add_special_tokens is False else list(self.prompts.before)
        return ids if ids[: len(before)] == before else before + ids

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, whether it is the likeliest) of continuations."""
        asked = [(request.args, *self._pair(*request.args)) for request in requests]
        found = self._loglikelihood_tokens(asked, disable_tqdm=disable_tqdm)
        for request, answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return found

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        **_: Any,
    ) -> list[tuple[float, bool]]:
        """The same of (anything, context, continuation) in tokens."""
        # The only token of a text in front of which nothing stands is taken as given.
        scored = [index for index, (_, _, own) in enumerate(requests) if own]
        pairs = [requests[index][1:] for index in scored]
        with _progress("scoring", len(pairs), hidden=disable_tqdm) as done:
            found = score(self.model, pairs, rows=self.rows, done=done)
        answers = [(0.0, True)] * len(requests)
        for index, each in zip(scored, found, strict=True):
            answers[index] = (each.loglikelihood, each.greedy)
        return answers

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if not context.strip():
            return self._opened(context + continuation)
        first, own = self._encode_pair(context, continuation)
        if not own:
            raise DataError(
                f"the answer {continuation!r} behind {context[-40:]!r} has no token of its own "
                "by this tokenizer"
            )
        return first + list(self.prompts.after), own

    def _prompt(self, context: str) -> list[int]:
        return self.tok_encode(context) + list(self.prompts.after)

    def _opened(self, text: str) -> tuple[list[int], list[int]]:
        """(what a text without a context stands behind, or answers to; its tokens)."""
        ids, size = self.tok_encode(text, add_special_tokens=False), max(1, len(self.opening))
        if not self.opening or ids[:size] == self.opening:
            return ids[:size], ids[size:]
        return self.opening, ids

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihoods in nats of whole texts, in windows that overlap by one token."""
        if self.pairs:
            raise ConfigError(
                "a task scores texts without a source, which an encoder-decoder has no "
                "probabilities of; use a decoder"
            )
        windows: list[tuple[Any, list[int], list[int]]] = []
        owners: list[int] = []
        for index, request in enumerate(requests):
            first, ids = self._opened(request.args[0])
            read = [*first, *ids]
            for start in range(0, len(ids), self.max_length):
                end = min(start + self.max_length, len(ids))
                # The last window is filled up from the left, so that it has the most context.
                context = read[max(0, len(first) + end - 1 - self.max_length) : len(first) + start]
                windows.append((None, context, ids[start:end]))
                owners.append(index)
        totals = [0.0] * len(requests)
        found = self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm)
        for owner, (value, _) in zip(owners, found, strict=True):
            totals[owner] += value
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What the model writes behind each context."""
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(index)
        answers = [""] * len(requests)
        with _progress("writing", len(requests), hidden=disable_tqdm) as done:
            for members in groups.values():
                written = write(
                    self.model,
                    [self._prompt(requests[index].args[0]) for index in members],
                    self.prompts,
                    seed=self.seed,
                    rows=self.rows,
                    done=done,
                    **generation(requests[members[0]].args[1], self.max_length),
                )
                for index, text in zip(members, written, strict=True):
                    answers[index] = text
                    self.cache_hook.add_partial("generate_until", requests[index].args, text)
        return answers


def generation(settings: Mapping[str, Any], max_length: int) -> dict[str, Any]:
    """A task's `generation_kwargs` as arguments of `zoo.evaluation.continuations.write`.

    Raises:
        ConfigError: at a setting that `zoo.Sampling` has not.
    """
    given = dict(settings)
    stops = given.pop("until", None) or []
    lengths = [given.pop(name, None) for name in _LENGTHS]
    count = next((length for length in lengths if length is not None), None)
    drawn, asked = given.pop("do_sample", None), given.pop("temperature", None)
    # Drawing is at the model's own temperature unless the task says otherwise.
    temperature = float(asked if asked is not None else drawn is True)
    if drawn is False or temperature == 0.0:
        temperature = 0.0
        given = {name: value for name, value in given.items() if name not in _OF_DRAWS}
    unknown = sorted(given.keys() - _SAMPLING)
    if unknown:
        raise ConfigError(
            f"a task's generation_kwargs ask for {choices(unknown)}, which is not supported; "
            f"supported are until, do_sample, temperature, {', '.join(_LENGTHS)} and "
            f"{', '.join(sorted(_SAMPLING))}"
        )
    return {
        "stops": [stops] if isinstance(stops, str) else [stop for stop in stops if stop],
        "max_new_tokens": min(_MOST_WRITTEN, max_length // 2) if count is None else int(count),
        "temperature": temperature,
        "sampling": Sampling(**given),
    }


def evaluate_tasks(
    source: str | Path,
    tasks: Sequence[str],
    *,
    folder: str | Path | None = None,
    shots: int | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """lm-eval's figures of a checkpoint, with what is needed to make them again.

    Args:
        source: what `load_pretrained` takes, with a tokenizer in the folder.
        tasks: names of lm-eval's tasks, groups or tags, or of those of `folder`.
        folder: of task files of one's own (YAML).
        shots: solved examples in front of each question; None: as each task says.
        limit: examples of each task, from its beginning; None: all.

    Returns:
        lm-eval's `results`, `groups`, `versions`, `n-shot`, `higher_is_better` and `n-samples`,
        and the protocol.

    Raises:
        ConfigError: on a task that is not known, or that asks for what the model cannot do.
        CheckpointError: when there is nothing to load.
    """
    from lm_eval import simple_evaluate

    manager = _manager(tasks, folder)
    model = ZooLM(source)
    try:
        found = simple_evaluate(
            model=model,
            tasks=list(tasks),
            task_manager=manager,
            num_fewshot=shots,
            limit=limit,
            log_samples=False,
        )
    except OSError as error:  # also what `datasets` raises without a network
        raise DataError(f"{', '.join(tasks)}: the data cannot be read: {error}") from error
    keys = ("results", "groups", "versions", "n-shot", "higher_is_better", "n-samples")
    return {key: found[key] for key in keys if found.get(key)} | {
        "protocol": {
            "model": str(source),
            "lm_eval": version("lm-eval"),
            "max_length": model.max_length,
            "opening_tokens": model.opening,
            "limit": limit,
        }
    }


def as_table(found: Mapping[str, Any]) -> str:
    """lm-eval's own table of what `evaluate_tasks` returns."""
    from lm_eval.utils import make_table

    parts = [make_table(found)]
    if found.get("groups"):
        parts.append(make_table(found, "groups"))
    return "\n".join(parts).rstrip("\n")


def _manager(tasks: Sequence[str], folder: str | Path | None) -> Any:
    """The tasks of the folder, and unless it has all that are asked for lm-eval's own."""
    from lm_eval.tasks import TaskManager

    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"lm_eval_path = {str(folder)!r} is no folder; name one of task files")
    if not tasks or not all(tasks):
        raise ConfigError(f"lm_eval = {','.join(tasks)!r} names no task; use a, b or a,b")
    own = None if folder is None else str(folder)
    # lm-eval's own are fourteen thousand files, which take many seconds to list.
    manager = TaskManager(include_path=own, include_defaults=False)
    if not set(tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=own)
    known = manager.all_tasks
    for task in tasks:
        if task not in known:
            raise ConfigError(
                f"lm_eval = {task!r} is no task of lm-eval {version('lm-eval')}"
                + (f" or of {own}" if own else "")
                + near_matches(task, known)
            )
    return manager


@contextlib.contextmanager
def _progress(what: str, total: int, *, hidden: bool) -> Iterator[Done]:
    from tqdm import tqdm

    with tqdm(total=total, desc=what, disable=hidden or None) as bar:
        yield bar.update
