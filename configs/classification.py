"""Which package of the Python standard library a snippet of code is from, among eight.

    python train.py --config configs/classification.py --workdir runs/packages
    python train.py --config configs/classification.py --workdir runs/kinds \
        --task token_classification --model.head token_classification

The first gets about 19 of 20 held-out snippets right; the second one learns what kind of token
each word is. Each about two minutes on 2 cores.
Your own data: --data.path F.jsonl, with a text and a label a line (--data.label-column).
"""

from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig


def config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/packages",
        task="sequence_classification",
        steps=300,
        model=ModelConfig(
            architecture="encoder",
            head="sequence_classification",
            variant="pre_norm",
            d_model=128,
            num_layers=4,
            num_heads=4,
            pooling="mean",
            dropout=0.1,
        ),
        data=DataConfig(tokenizer="bpe", vocab_size=4096, batch_size=32, length=160),
        optim=OptimConfig(lr=1e-3, schedule="cosine", weight_decay=0.01),
    )
