"""Every variant that writes text writes what its own logits say."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.matrix import BASE, VOCAB
from zoo.decoding import generate
from zoo.models.transformer import build
from zoo.variants.registry import list_variants

NEW = 3
PAIRS = list(itertools.product(list_variants(), ("decoder", "encoder_decoder")))


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "architecture"), PAIRS)
def test_a_pair_decodes_what_its_logits_say(variant: str, architecture: str) -> None:
    config = dataclasses.replace(BASE, variant=variant, architecture=architecture)
    model = build(config, jax.random.key(0))
    prompt = jax.random.randint(jax.random.key(1), (2, 3), 0, VOCAB, jnp.int32)
    made = generate(model, prompt, max_new_tokens=NEW)
    if architecture == "decoder":
        np.testing.assert_array_equal(made[:, :3], prompt)
        logits = model(made[:, :-1])
    else:
        logits = model(prompt, decoder_input_ids=made[:, :-1])
    best = np.asarray(logits.argmax(-1))[:, -NEW:]
    np.testing.assert_array_equal(np.asarray(made)[:, -NEW:], best)
