"""What attention keeps of the tokens before: their keys and values."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Past:
    """Keys and values of earlier tokens; a pytree.

    Token i stands in slot i modulo the number of slots: with as many slots as tokens that is all
    of them, with fewer a ring of the last ones.

    Attributes:
        keys, values: [..., batch, kv heads, slots, head_dim], as they meet queries.
        grows: whether later tokens are added; False in cross-attention.
    """

    keys: jax.Array
    values: jax.Array
    grows: bool = dataclasses.field(default=True, metadata={"static": True})

    def resized(self, slots: int) -> Past:
        """The past of a prompt, a slot a token, with other slots: more for what is to come, or
        fewer for its last tokens."""
        if not self.grows:
            return self
        return Past(_resized(self.keys, slots), _resized(self.values, slots))

    def written(self, keys: jax.Array, values: jax.Array, index: jax.Array) -> Past:
        """With token `index` in its slot, keys and values [batch, kv heads, 1, head_dim]."""
        slot = index % self.keys.shape[-2]

        def put(old: jax.Array, new: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), slot, axis=2)

        return Past(put(self.keys, keys), put(self.values, values))

    def held(self, index: jax.Array, of_tokens: jax.Array) -> jax.Array:
        """[..., tokens] of a whole text to [..., slots], once token `index` is written.

        Slots that are still empty have what stands for some token, see `filled`.
        """
        slots = self.keys.shape[-2]
        if slots == of_tokens.shape[-1]:
            return of_tokens
        return jnp.take(of_tokens, jnp.maximum(self._tokens(index), 0), axis=-1)

    def filled(self, index: jax.Array) -> jax.Array:
        """[slots] bool: which slots hold a token, once token `index` is written."""
        return self._tokens(index) >= 0

    def _tokens(self, index: jax.Array) -> jax.Array:
        slots = self.keys.shape[-2]
        return index - (index - jnp.arange(slots, dtype=jnp.int32)) % slots


jax.tree_util.register_dataclass(Past)


def _resized(x: jax.Array, slots: int) -> jax.Array:
    tokens = x.shape[-2]
    if tokens <= slots:
        return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, slots - tokens), (0, 0)])
    return jnp.roll(x[..., tokens - slots :, :], tokens % slots, axis=-2)
