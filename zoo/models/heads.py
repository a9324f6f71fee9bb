"""What stands on a stack: language-model logits, BERT's masked-LM head, classifiers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.layers import weight
from zoo.layers.embeddings import Embedding
from zoo.layers.linear import Linear
from zoo.layers.mlp import Activation, activate
from zoo.layers.norms import Norm
from zoo.models.config import ModelConfig
from zoo.variants.placement import StackPlacement


class VocabularyHead(nnx.Module):
    """Logits over the vocabulary; with tied embeddings it has no matrix of its own."""

    def __init__(
        self, config: ModelConfig, placement: StackPlacement, width: int, *, bias: bool
    ) -> None:
        """Make the weights; `width` is that of what comes, and of a table that is tied."""
        vocab = config.sizes().vocab_size
        self.softcap = config.logit_softcap
        self.factor = placement.logit_scale.number * config.logit_scale
        if not config.tie_embeddings:
            self.kernel = weight.matrix("head", width, vocab, ("embed", "vocab"))
        if bias:
            self.bias = weight.vector("head", vocab, "vocab", kind="bias")
        match placement.logit_scale.learned:
            case "vector":
                self.logit_scale = weight.vector("logit_scale", vocab, "vocab", kind="multiplier")
            case "scalar":
                self.logit_scale = weight.scalar("logit_scale")
            case None:
                pass

    def __call__(self, hidden: jax.Array, embedding: Embedding) -> jax.Array:
        """[..., width] to [..., vocab], summed and left in float32 whatever the compute dtype."""
        if hasattr(self, "kernel"):
            kernel = self.kernel[...].astype(hidden.dtype)
            flat = hidden.reshape(-1, hidden.shape[-1])
            logits = jnp.matmul(flat, kernel, preferred_element_type=jnp.float32)
            logits = logits.reshape(*hidden.shape[:-1], kernel.shape[-1])
        else:
            logits = embedding.attend(hidden)
        if hasattr(self, "bias"):
            logits = logits + self.bias[...]
        if hasattr(self, "logit_scale"):
            logits = logits * self.logit_scale[...]
        if self.factor != 1.0:
            logits = logits * self.factor
        if self.softcap is not None:
            logits = self.softcap * jnp.tanh(logits / self.softcap)
        return logits


class MaskedLMHead(nnx.Module):
    """BERT's: dense layer, activation, norm, then the vocabulary with a bias (1810.04805)."""

    def __init__(self, config: ModelConfig, placement: StackPlacement) -> None:
        width = config.output_width()
        self.activation = config.head_activation or config.activation
        axes = ("embed", "head_hidden")
        self.dense = Linear(config.head_width(), width, role="head_dense", axes=axes, bias=True)
        self.norm = Norm(width, config.norm_spec(), role="head_norm")
        self.vocabulary = VocabularyHead(config, placement, width, bias=True)

    def __call__(self, hidden: jax.Array, embedding: Embedding) -> jax.Array:
        """[..., d_model] to [..., vocab] float32."""
        return self.vocabulary(self.norm(activate(self.dense(hidden), self.activation)), embedding)


class ReplacedTokenHead(nnx.Module):
    """ELECTRA's discriminator: dense layer, activation, and whether each token was replaced
    (2003.10555)."""

    def __init__(self, config: ModelConfig) -> None:
        width = config.head_width()
        self.activation: Activation = config.head_activation or config.activation
        axes = ("embed", "head_hidden")
        self.dense = Linear(width, width, role="head_dense", axes=axes, bias=True)
        self.linear = Linear(width, 1, role="head", axes=("embed", "labels"), bias=True)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """[..., d_model] to a float32 logit for each token, [...]."""
        scores = self.linear(activate(self.dense(hidden), self.activation))
        return scores[..., 0].astype(jnp.float32)


class Classifier(nnx.Module):
    """A linear layer to the labels: of every token, or of one vector for the sequence."""

    def __init__(self, config: ModelConfig, labels: int) -> None:
        axes, bias = ("embed", "labels"), config.classifier_bias
        self.linear = Linear(config.head_width(), labels, role="head", axes=axes, bias=bias)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """[..., d_model] to [..., labels] float32."""
        return self.linear(hidden).astype(jnp.float32)


class Pooler(nnx.Module):
    """A dense layer and its activation on the vector of a sequence (BERT's: tanh)."""

    def __init__(self, d_model: int, activation: Activation) -> None:
        self.activation: Activation = activation
        self.dense = Linear(
            d_model, d_model, role="pooler", axes=("embed", "head_hidden"), bias=True
        )

    def __call__(self, first: jax.Array) -> jax.Array:
        """[..., d_model] to the same."""
        return activate(self.dense(first), self.activation)


def mean_of_tokens(hidden: jax.Array, attention_mask: jax.Array | None) -> jax.Array:
    """[batch, length, d_model] to [batch, d_model], over the tokens that are seen."""
    if attention_mask is None:
        return jnp.mean(hidden, axis=1)
    keep = attention_mask.astype(hidden.dtype)[..., None]
    return jnp.sum(hidden * keep, axis=1) / jnp.maximum(jnp.sum(keep, axis=1), 1.0)
