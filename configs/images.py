"""A small ViT on labelled images of your own: 32 x 32 pixels, three channels.

    python train.py --config configs/images.py --workdir runs/images --data.path images.npz

The .npz file holds an array `image`, uint8 [examples, height, width, channels], and an array
`label`; .parquet, .jsonl and --data.dataset work too. Images of another size, such as MNIST's:
--model.image-size 28 --model.num-channels 1
"""

from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig


def config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/images",
        task="image_classification",
        steps=1000,
        model=ModelConfig(
            architecture="vision",
            variant="pre_norm",
            d_model=128,
            num_layers=6,
            num_heads=4,
            image_size=32,
            patch_size=4,
            num_channels=3,
            dropout=0.1,
        ),
        data=DataConfig(batch_size=64),
        optim=OptimConfig(lr=1e-3, schedule="cosine", weight_decay=0.05),
    )
