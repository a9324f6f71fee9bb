"""Six placements at three depths, each tuned over four rates, on the standard library's source.

    zoo compare --config configs/compare/default.py --dry-run
    zoo compare --config configs/compare/default.py --workdir runs/compare

A byte-level decoder of width 32; about half an hour on 2 cores. The report is
runs/compare/report.html, and the same command goes on where it was stopped.
"""

from zoo.compare.config import CompareConfig
from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig


def config() -> CompareConfig:
    return CompareConfig(
        variants=("post_norm", "pre_norm", "deep_norm", "b2t", "residual_dual", "keel"),
        depths=(4, 12, 36),
        space={"optim.lr": (1e-3, 3e-3, 1e-2, 3e-2)},
        seeds=3,
        workers=2,
        run=TrainConfig(
            workdir="runs/compare",
            steps=100,
            tensorboard=False,
            model=ModelConfig(d_model=32, num_heads=4),
            data=DataConfig(batch_size=4, length=128),
        ),
    )
