"""The original Transformer, small, on pairs of sentences: it needs two files, line by line.

    python train.py --config configs/translation.py --workdir runs/translation \
        --data.path train.en --data.target-path train.de \
        --data.validation-path val.en --data.validation-target-path val.de

Post-norm, sinusoidal positions, one table for both sides and the head, label smoothing 0.1
(1706.03762), at a size for small corpora: 77,000 pairs, about six minutes on 2 cores.
A .jsonl or .parquet file instead: --data.text-column en --data.target-column de. From the Hub:
--data.dataset wmt/wmt14 --data.dataset-config de-en --data.validation-split validation
--data.text-column translation.en --data.target-column translation.de. At the end the held-out
sources are translated and scored; zoo evaluate --num-beams 4 searches for better translations.
"""

from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig


def config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/translation",
        task="seq2seq",
        steps=1200,
        model=ModelConfig(
            architecture="encoder_decoder",
            variant="post_norm",
            d_model=128,
            num_layers=3,
            num_heads=4,
            d_ff=512,
            positions="sinusoidal",
            activation="relu",
            tie_embeddings=True,
            dropout=0.1,
            init="xavier_uniform",
        ),
        data=DataConfig(tokenizer="bpe", vocab_size=4000, batch_size=64, length=32),
        optim=OptimConfig(
            lr=1e-3,
            beta2=0.98,
            schedule="inverse_sqrt",
            warmup=300,
            weight_decay=0.0,
            label_smoothing=0.1,
        ),
    )
