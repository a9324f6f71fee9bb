"""A small BERT of the Python standard library's source: masked tokens restored from both sides.

    python train.py --config configs/masked_lm.py --workdir runs/masked
    zoo data --config configs/masked_lm.py       # which tokens are hidden

Post-norm, 4 layers, d_model 128, a BPE of 4096 tokens. About three minutes on 2 cores.
Your own text: --data.path F.
"""

from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig


def config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/masked",
        task="masked_lm",
        steps=400,
        model=ModelConfig(
            architecture="encoder",
            variant="post_norm",
            d_model=128,
            num_layers=4,
            num_heads=4,
            embedding_norm=True,
            embedding_scale=False,
            tie_embeddings=True,
        ),
        data=DataConfig(tokenizer="bpe", vocab_size=4096, batch_size=32, length=128),
        optim=OptimConfig(lr=1e-3, schedule="cosine", weight_decay=0.01),
    )
