"""A 12-layer Peri-LN model of WikiText-103 with a trained BPE vocabulary; wants an accelerator.

    python train.py --config configs/wikitext.py --workdir runs/wikitext
    python train.py --config configs/wikitext.py --workdir runs/local --data.dataset none \
        --data.dataset-config none --data.validation-split none --data.path wiki.train.tokens

Rows are 512 tokens, 64 to a batch, 0.66 B tokens in all; documents do not attend to each other.
"""

from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig


def config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/wikitext",
        steps=20_000,
        log_every=50,
        sample_prompt="The ",
        model=ModelConfig(
            variant="peri_norm",
            d_model=768,
            num_layers=12,
            num_heads=12,
            norm="rms_norm",
            positions="rotary",
            activation="silu",
            gated=True,
            d_ff=2048,
            bias=False,
            dropout=0.1,
            dtype="bfloat16",
        ),
        data=DataConfig(
            dataset="Salesforce/wikitext",
            dataset_config="wikitext-103-raw-v1",
            validation_split="validation",
            tokenizer="bpe",
            vocab_size=16_384,
            batch_size=64,
            length=512,
            separate_documents=True,
        ),
        optim=OptimConfig(lr=6e-4, weight_decay=0.1),
    )
