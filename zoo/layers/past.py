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
        keys, values: [..., batch x heads, slots, head_dim], as they meet queries; in this shape
            XLA updates them in place for any batch.
        heads: that keys and values have.
        grows: whether later tokens are added; False in cross-attention.
    """

    keys: jax.Array
    values: jax.Array
    heads: int = dataclasses.field(metadata={"static": True})
    grows: bool = dataclasses.field(default=True, metadata={"static": True})

    @classmethod
    def of(cls, keys: jax.Array, values: jax.Array, *, grows: bool) -> Past:
        """Of [batch, heads, tokens, head_dim]."""
        return cls(_merged(keys), _merged(values), keys.shape[1], grows)

    def apart(self) -> tuple[jax.Array, jax.Array]:
        """Keys and values, [batch, heads, slots, head_dim] both."""
        keys, values = (x.reshape(-1, self.heads, *x.shape[-2:]) for x in (self.keys, self.values))
        return keys, values

    def of_rows(self, rows: jax.Array) -> Past:
        """The past of other rows: [new rows] int32 of the old ones."""

        def chosen(x: jax.Array) -> jax.Array:
            *front, _, slots, width = x.shape
            whole = x.reshape(*front, -1, self.heads, slots, width)
            return jnp.take(whole, rows, axis=len(front)).reshape(*front, -1, slots, width)

        return dataclasses.replace(self, keys=chosen(self.keys), values=chosen(self.values))

    def resized(self, slots: int) -> Past:
        """The past of a prompt, a slot a token, with other slots: more for what is to come, or
        fewer for its last tokens."""
        if not self.grows:
            return self
        keys, values = (_resized(x, slots) for x in (self.keys, self.values))
        return dataclasses.replace(self, keys=keys, values=values)

    def written(self, keys: jax.Array, values: jax.Array, index: jax.Array) -> Past:
        """With token `index` in its slot, keys and values [batch, heads, 1, head_dim]."""
        slot = index % self.keys.shape[-2]

        def put(old: jax.Array, new: jax.Array) -> jax.Array:
            new = _merged(new.astype(old.dtype))
            return jax.lax.dynamic_update_slice_in_dim(old, new, slot, axis=1)

        return dataclasses.replace(self, keys=put(self.keys, keys), values=put(self.values, values))

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


def _merged(x: jax.Array) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])


def _resized(x: jax.Array, slots: int) -> jax.Array:
    tokens = x.shape[-2]
    if tokens <= slots:
        return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, slots - tokens), (0, 0)])
    return jnp.roll(x[..., tokens - slots :, :], tokens % slots, axis=-2)
