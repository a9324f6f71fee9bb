"""Marian (1804.00344): the original Transformer's post-norm for translation, with a static table
of positions."""

from __future__ import annotations

from zoo.hf.families.bart import (
    HAS_LOGITS_BIAS,
    IGNORED_KEYS,
    LOGITS_BIAS,
    POST,
    POST_LAYERS,
    SHARED,
    SINES,
    TIED,
    UNSHARED,
    keys,
)
from zoo.hf.family import Family
from zoo.hf.keys import Rule, Settings, refused
from zoo.hf.weights import linear


def _tables(theirs: Settings) -> Settings:
    """Source and target share a table if both keys say so."""
    rows = theirs["decoder_vocab_size"]
    if rows not in (None, theirs["vocab_size"]):
        raise refused("decoder_vocab_size", rows, [theirs["vocab_size"]])
    tied = theirs["tie_word_embeddings"]
    return {"share_embeddings": tied and theirs["share_encoder_decoder_embeddings"]}


def _written(ours: Settings) -> Settings:
    return {"share_encoder_decoder_embeddings": ours["share_embeddings"] is not False}


FAMILIES = (
    Family(
        name="marian",
        classes={"MarianMTModel": "language_model", "MarianModel": "none"},
        fields={
            **POST,
            "positions": "sinusoidal_halves",
            "position_offset": 0,
            "embedding_norm": False,
        },
        keys=(
            *keys(vocabulary=58101, start=58100, pre=False, embedding_norm=False, static=True),
            Rule(
                {
                    "vocab_size": 58101,
                    "decoder_vocab_size": None,
                    "tie_word_embeddings": True,
                    "share_encoder_decoder_embeddings": True,
                },
                _tables,
                _written,
            ),
        ),
        ignored_keys=IGNORED_KEYS,
        prefix="model.",
        weights={**SHARED, **POST_LAYERS},
        heads={"language_model": {**linear("head", "lm_head"), **LOGITS_BIAS}},
        by_tensor=(HAS_LOGITS_BIAS,),
        sines=SINES,
        tied=TIED,
        where=(UNSHARED,),
    ),
)
