"""The original Transformer's placement against others on pairs of sentences, by BLEU.

    zoo compare --config configs/compare/translation.py --workdir runs/translation \
        --data.path train.en --data.target-path train.de \
        --data.validation-path val.en --data.validation-target-path val.de \
        --test-path test.en --test-target-path test.de

6 + 6 layers, two to three hours of one core. Deeper, where post-norm is expected to fall behind,
four hours more:

    ... --variants post_norm,pre_norm,deep_norm,admin,b2t,residual_dual --depths 18 \
        --search halving --steps 600 --workdir runs/translation-deep

Rates are chosen by held-out loss; the table is BLEU of beam search on the test pairs. What is
expected of both on Multi30k was written down before: `python scripts/claims translation_shallow`
and `translation_deep`, with `--data` and the folder of its files.
"""

from zoo.compare.config import CompareConfig
from zoo.data.config import DataConfig
from zoo.models.config import ModelConfig
from zoo.training.config import TrainConfig
from zoo.training.optim_config import OptimConfig


def config() -> CompareConfig:
    return CompareConfig(
        variants=("post_norm", "pre_norm", "deep_norm"),
        depths=(6,),
        space={"optim.lr": (5e-4, 1e-3, 2e-3, 4e-3)},
        search="halving",
        select="loss",
        seeds=3,
        num_beams=4,
        run=TrainConfig(
            workdir="runs/translation",
            task="seq2seq",
            steps=1200,
            tensorboard=False,
            eval_batches=16,
            model=ModelConfig(
                architecture="encoder_decoder",
                d_model=64,
                num_heads=4,
                d_ff=256,
                positions="sinusoidal",
                activation="relu",
                tie_embeddings=True,
                dropout=0.1,
                init="xavier_uniform",
            ),
            data=DataConfig(tokenizer="bpe", vocab_size=4000, batch_size=32, length=32),
            optim=OptimConfig(
                beta2=0.98,
                schedule="inverse_sqrt",
                warmup=300,
                weight_decay=0.0,
                label_smoothing=0.1,
            ),
        ),
    )
