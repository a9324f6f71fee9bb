"""What a claim is: said before it is run, judged by a rule that was fixed before."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import _judging
from _judging import Found, Verdict

from zoo.compare.config import CompareConfig, load_compare_config
from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.settings import flatten
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement of the literature that can fail.

    Attributes:
        name: of the command: `python scripts/claims NAME`.
        statement: what is said, in a sentence.
        source: by whom, where.
        expectation: what is expected at the scale of this experiment.
        metric: what is looked at.
        rule: when it is confirmed, not seen or reversed, in words.
        comparisons: `comparisons(scale)` by label; scale multiplies the steps.
        judge: the rule as code.
        control: whether it tests the method rather than the literature.
        minutes: on 2 cores, about.
        files: of a folder that the user has; the configs name them relative to it.
    """

    name: str
    statement: str
    source: str
    expectation: str
    metric: str
    rule: str
    comparisons: Callable[[float], dict[str, CompareConfig]]
    judge: Callable[[Found], Verdict]
    control: bool = False
    minutes: int = 5
    files: tuple[str, ...] = ()

    def hash(self, scale: float) -> str:
        """Of what must not change once it has been run: the claim's file, what it is judged with,
        and the settings of its runs, but where their files lie."""
        digest = hashlib.sha256(f"scale {scale:g}".encode())
        for file in (inspect.getfile(self.judge), _judging.__file__):
            digest.update(Path(file).read_bytes())
        for label, config in self.comparisons(scale).items():
            digest.update(json.dumps([label, _asked(config)], sort_keys=True).encode())
        return digest.hexdigest()[:16]


def _asked(config: CompareConfig) -> dict[str, Any]:
    """The settings that are not left at their default, so that one added later changes nothing."""
    settings, default = flatten(config.to_json()), flatten(CompareConfig().to_json())
    return {
        name: value
        for name, value in settings.items()
        if not name.endswith("path") and (name not in default or value != default[name])
    }


def decoder(
    variants: Sequence[str],
    *,
    depth: int,
    steps: int,
    lr: Sequence[float],
    seeds: int = 3,
    d_model: int = 64,
    model: Mapping[str, Any] | None = None,
    optim: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    **more: Any,
) -> CompareConfig:
    """Byte-level decoders on the source of the Python standard library, 4 × 128 bytes a step."""
    return CompareConfig(
        variants=tuple(variants),
        depths=(depth,),
        space={"optim.lr": tuple(lr)},
        seeds=seeds,
        **{"extend": 0, "layers": False, **more},
        run=TrainConfig(
            steps=steps,
            tensorboard=False,
            log_every=5,
            eval_every=steps,
            eval_batches=64,
            model=ModelConfig(d_model=d_model, num_heads=4, **(model or {})),
            data=DataConfig(**{"batch_size": 4, "length": 128, **(data or {})}),
            optim=OptimConfig(**(optim or {})),
        ),
    )


MULTI30K = tuple(
    f"{part}.{language}"
    for part in ("train", "val", "test_2016_flickr")
    for language in ("en", "de")
)


def translation(
    variants: Sequence[str], *, depth: int, steps: int, model: Mapping[str, Any] | None = None
) -> CompareConfig:
    """configs/compare/translation.py on the English and German sentences of Multi30k."""
    config = load_compare_config(ROOT / "configs" / "compare" / "translation.py")
    train, target, val, val_target, test, test_target = MULTI30K
    data = dataclasses.replace(
        config.run.data,
        path=train,
        target_path=target,
        validation_path=val,
        validation_target_path=val_target,
    )
    return dataclasses.replace(
        config,
        variants=tuple(variants),
        depths=(depth,),
        layers=False,
        workers=2,
        test_path=test,
        test_target_path=test_target,
        run=dataclasses.replace(
            config.run,
            steps=steps,
            eval_every=steps,
            data=data,
            model=dataclasses.replace(config.run.model, **(model or {})),
        ),
    )
