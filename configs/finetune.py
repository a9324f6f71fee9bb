"""Fine-tune a published post-norm encoder: which package a snippet of the standard library is from.

    python train.py --config configs/finetune.py --workdir runs/tuned
    python train.py --config configs/finetune.py --workdir runs/mine --init-from DIR \
        --data.path F.jsonl --optim.freeze emb pos

Model, tokenizer and special tokens come from the checkpoint: a Hugging Face folder or repo id, or a
workdir of ours. Lower layers learn more slowly (0.9 a layer); the second line keeps the embeddings
as they are. Two texts a label, as in GLUE: --data.dataset nyu-mll/glue --data.dataset-config mrpc
--data.validation-split validation --data.text-column sentence1 --data.text-pair-column sentence2.
About five minutes on 2 cores. docs/finetune.md compares such runs with starts from
scratch.
"""

from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig


def config() -> TrainConfig:
    return TrainConfig(
        workdir="runs/tuned",
        task="sequence_classification",
        init_from="sentence-transformers/all-MiniLM-L6-v2",
        steps=300,
        model=ModelConfig(
            architecture="encoder", head="sequence_classification", pooling="mean", dropout=0.1
        ),
        data=DataConfig(batch_size=16, length=64),
        # As BERT is fine-tuned (1810.04805, appendix A.3), at a higher rate for a small model.
        optim=OptimConfig(
            lr=2e-4,
            schedule="linear",
            warmup=30,
            weight_decay=0.01,
            beta2=0.999,
            layer_lr_decay=0.9,
        ),
    )
