"""mHC: Hyper-Connections whose mixture of the streams is doubly stochastic."""

from __future__ import annotations

import math
from typing import Literal, cast

import jax
import jax.numpy as jnp
from flax import nnx

from zoo.errors import VariantError, choices
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.variants import stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement, Start
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, count, make_norm, normed
from zoo.variants.streams.hyper_connections import Weighed, copies, mix, update
from zoo.variants.variant import Context, Recipe, Variant

Init = Literal["paper", "deepseek_v4", "hy_v4", "mhc_lite"]
INITS: tuple[Init, ...] = ("paper", "deepseek_v4", "hy_v4", "mhc_lite")

# Iterations and epsilon of the projection (2512.24880, section 4; DeepSeek-V4's code).
ITERATIONS, EPS = 20, 1e-6
# What a write weight, twice a sigmoid, is at most.
_WRITE = 2.0
# Logits of mhc_lite's start: read and write of the own stream and of the others, and mixing.
_OWN, _OTHER, _APART = 1.0, -1.0, -8.0


def sinkhorn(logits: jax.Array) -> jax.Array:
    """[..., n, n] logits to a matrix whose rows and columns sum to 1.

    softmax over the last axis, then columns and rows in turn, each divided by its sum; columns
    come first and last (DeepSeek-V4's code).
    """
    start = jax.nn.softmax(logits, axis=-1) + EPS
    start = start / (start.sum(-2, keepdims=True) + EPS)

    def step(matrix: jax.Array, _: None) -> tuple[jax.Array, None]:
        matrix = matrix / (matrix.sum(-1, keepdims=True) + EPS)
        return matrix / (matrix.sum(-2, keepdims=True) + EPS), None

    return jax.lax.scan(step, start, length=ITERATIONS - 1)[0]


class Read(nnx.Module):
    """Logits of one read or of all of a sublayer's weights, from the streams' joint direction."""

    def __init__(
        self, role: str, *, streams: int, d_model: int, outputs: tuple[int, ...], eps: float
    ) -> None:
        self.outputs, self.eps = outputs, eps
        width, total = streams * d_model, sum(outputs)
        self.kernel = weight.matrix(role, width, total, ("embed", "streams"))
        self.base = weight.array(f"{role}_base", (total,), ("streams",))
        self.scale = weight.array(f"{role}_scale", (len(outputs),), ("parts",), start=1.0)

    def __call__(self, h: jax.Array) -> list[jax.Array]:
        """[..., streams, d_model] to one float32 [..., outputs] each: scale (x W) + base."""
        flat = h.reshape(*h.shape[:-2], -1).astype(jnp.float32)
        flat = flat * jax.lax.rsqrt(jnp.mean(flat * flat, axis=-1, keepdims=True) + self.eps)
        ends = [sum(self.outputs[: part + 1]) for part in range(len(self.outputs) - 1)]
        logits = jnp.split(flat @ self.kernel[...], ends, axis=-1)
        bases = jnp.split(self.base[...], ends)
        return [
            self.scale[part] * own + base
            for part, (own, base) in enumerate(zip(logits, bases, strict=True))
        ]


class ManifoldSite(nnx.Module):
    """One sublayer's access to n streams, [batch, length, streams, d_model]."""

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        n = self.streams = count(stack, "streams")
        self.mixes = bool(stack.option("mixes"))
        self.write_eps = cast(float, stack.option("write_eps"))
        self.norm_in = make_norm(site.slots()["norm_in"], "norm_in", d_model, norm)
        outputs = (n, n, n * n) if self.mixes else (n, n)
        self.mapping = Read("mapping", streams=n, d_model=d_model, outputs=outputs, eps=norm.eps)

    def weigh(self, carry: jax.Array | Weighed) -> Weighed:
        """The streams with their logits."""
        return carry if isinstance(carry, Weighed) else Weighed(carry, self.mapping(carry))

    def read(self, carry: jax.Array | Weighed, numbers: Numbers) -> jax.Array:
        """N_in of the streams' sum, weighted by sigmoids."""
        h, logits = self.weigh(carry)
        weights = jax.nn.sigmoid(logits[0]) + EPS
        return normed(self.norm_in, mix(weights[..., None], h)[..., 0, :], numbers["norm_in_scale"])

    def write(
        self,
        carry: jax.Array | Weighed,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> jax.Array:
        """C^T H + 2 sigmoid(..) (x) branch with a doubly stochastic C."""
        h, logits = self.weigh(carry)
        written = _WRITE * jax.nn.sigmoid(logits[1]) + self.write_eps
        kept = mix(self.mixture(logits[2]), h) if self.mixes else h
        return update(kept, branch, written, keep=keep, tap=tap)

    def mixture(self, logits: jax.Array) -> jax.Array:
        """[..., n^2] to [..., n, n]: how much of stream i (row) goes to stream j (column)."""
        return sinkhorn(logits.reshape(*logits.shape[:-1], self.streams, self.streams))


class ManifoldEnds(nnx.Module):
    """n copies of the embedding at the start, one more weighted read at the end."""

    def __init__(self, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.streams = n = count(stack, "streams")
        self.head = Read("head_read", streams=n, d_model=d_model, outputs=(n,), eps=norm.eps)

    def open(self, x: jax.Array) -> jax.Array:
        return copies(x, self.streams)

    def close(self, carry: jax.Array) -> jax.Array:
        (logits,) = self.head(carry)
        weights = jax.nn.sigmoid(logits) + EPS
        return mix(weights[..., None], carry)[..., 0, :]


def _mhc(context: Context, *, streams: int, init: str) -> Site:
    return Site(
        context.sublayer,
        norm_in=NormSlot(),
        init_gains=(("mapping", _drawn(init)),),
        starts=(
            ("mapping_base", _bases(context, streams, init)),
            ("mapping_scale", _scale(init)),
        ),
    )


def _ends(context: Context, *, streams: int, init: str) -> StackPlacement:
    base: Start = _even(streams) if init == "hy_v4" else 0.0
    return StackPlacement(
        final_norm="required",
        options=(
            ("mixes", init != "hy_v4"),
            ("streams", streams),
            ("write_eps", EPS if init == "hy_v4" else 0.0),
        ),
        init_gains=(("head_read", _drawn(init)),),
        starts=(("head_read_base", base), ("head_read_scale", _scale(init))),
    )


def _bases(context: Context, n: int, init: str) -> tuple[float, ...]:
    """Where the biases of read, write and mixture start, in this order."""
    if init == "hy_v4":
        return (_even(n),) * n + (0.0,) * n
    if init == "mhc_lite":
        turn = context.sublayer_index % n
        own = tuple(_OWN if row == turn else _OTHER for row in range(n))
        apart = tuple(0.0 if i == j else _APART for i in range(n) for j in range(n))
        return own + own + apart
    return (0.0,) * (n + n + n * n)


def _even(n: int) -> float:
    """The logit of 1 / n."""
    return -math.log(n - 1)


def _scale(init: str) -> float:
    return 1.0 if init == "deepseek_v4" else 0.01


def _drawn(init: str) -> float:
    """Factor on the base init of the maps from streams to logits."""
    return 0.0 if init == "mhc_lite" else 1.0


def _check(*, streams: int, init: str) -> None:
    if init not in INITS:
        raise VariantError(f"mhc(init={init!r}): use {choices(INITS)}")
    if streams < 2:
        raise VariantError(f"mhc(streams={streams}): streams must be at least 2")


def _wiring(stack: StackPlacement) -> Wiring:
    mixes = bool(stack.option("mixes"))
    mixture = ("C doubly stochastic, of RMS(H) by Sinkhorn",) if mixes else ()
    return Wiring(
        lanes=("H",),
        opens=(f"{stack.option('streams')} copies of e",),
        steps=(Step("preᵀ H", (f"{'Cᵀ H' if mixes else 'H'} + post ⊗ f",)),),
        closes="headᵀ H",
        where=("pre, head: σ of maps of RMS(H);  post: 2 σ of one;  the maps learned", *mixture),
    )


STREAM = Stream(site=ManifoldSite, ends=ManifoldEnds, wiring=_wiring)

VARIANTS = (
    Variant(
        name="mhc",
        summary="Hyper-Connections with a doubly stochastic mixture of the streams",
        equation="x = pre^T H,  H' = C^T H + post (x) F(N(x)),  rows and columns of C sum to 1",
        law=_mhc,
        ends=_ends,
        final_norm="required",
        options={"streams": 4, "init": "paper"},
        check=_check,
        stream="mhc",
        aliases=(),
        paper=stream_papers.MHC,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        failure="below some 10M parameters public comparisons find it behind pre-norm",
        note=(
            "equations of DeepSeek-V4's code, with its read at the end; the paper gives the start "
            "of the scales only, the biases start at 0. init also takes what differs between "
            "releases: hy_v4 mixes no streams. mhc_lite is that repository's start with this "
            "projection, its streams taken in turn by the sublayers. Figures of the stream are "
            "of the streams' mean."
        ),
        used_by=("DeepSeek-V4", "GLM-5-next", "HY-V4"),
    ),
)
