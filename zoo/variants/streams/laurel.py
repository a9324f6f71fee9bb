"""LAuReL: a learned skip, by two weights, by a matrix of low rank, or by both."""

from __future__ import annotations

import jax
from flax import nnx

from zoo.errors import VariantError, choices
from zoo.layers import weight
from zoo.layers.norms import NormSpec
from zoo.variants import stream_papers
from zoo.variants.placement import NormSlot, Site, StackPlacement
from zoo.variants.streams.base import Numbers, Step, Stream, Tap, Wiring, count
from zoo.variants.streams.plain import PlainSite
from zoo.variants.variant import Context, Recipe, Variant

_FORMS = ("low_rank", "weights", "both")


class LaurelSite(nnx.Module):
    """x' = alpha F(N(x)) + beta (x + (x A) B), with (alpha, beta) = 2 softmax of two logits."""

    def __init__(self, site: Site, stack: StackPlacement, d_model: int, norm: NormSpec) -> None:
        self.plain = PlainSite(site, stack, d_model, norm)
        form, rank = stack.option("form"), count(stack, "rank")
        if form != "weights":
            self.down = weight.matrix("laurel_down", d_model, rank, ("embed", "rank"))
            self.up = weight.matrix("laurel_up", rank, d_model, ("rank", "embed"))
        if form != "low_rank":
            self.logits = weight.array("laurel_logits", (2,), ("terms",))

    def read(self, carry: jax.Array, numbers: Numbers) -> jax.Array:
        return self.plain.read(carry, numbers)

    def write(
        self,
        carry: jax.Array,
        branch: jax.Array,
        numbers: Numbers,
        *,
        keep: jax.Array | None = None,
        tap: Tap | None = None,
    ) -> jax.Array:
        skip = carry
        if hasattr(self, "down"):
            down, up = (each[...].astype(carry.dtype) for each in (self.down, self.up))
            skip = carry + (carry @ down) @ up
        if hasattr(self, "logits"):
            alpha, beta = (2.0 * jax.nn.softmax(self.logits[...])).astype(carry.dtype)
            skip, branch = beta * skip, alpha * branch
        x: jax.Array = self.plain.write(skip, branch, numbers, keep=keep, tap=tap)
        return x


def _site(context: Context, *, form: str, rank: int) -> Site:
    start = (("laurel_up", 0.0),) if form != "weights" else ()
    return Site(context.sublayer, norm_in=NormSlot(), init_gains=start)


def _ends(context: Context, *, form: str, rank: int) -> StackPlacement:
    return StackPlacement(final_norm="required", options=(("form", form), ("rank", rank)))


def _check(*, form: str, rank: int) -> None:
    if form not in _FORMS:
        raise VariantError(f"laurel(form={form!r}): use {choices(_FORMS)}")
    if rank < 1:
        raise VariantError(f"laurel(rank={rank}): must be at least 1")


def _wiring(stack: StackPlacement) -> Wiring:
    form = stack.option("form")
    skip = "x" if form == "weights" else "x + x A B"
    write = f"{skip} + f" if form == "low_rank" else f"β ({skip}) + α f"
    terms = {"low_rank": "A, B", "weights": "α, β", "both": "A, B, α, β"}
    own = (f"{terms[str(form)]} learned",)
    return Wiring(lanes=("x",), opens=("e",), steps=(Step("x", (write,)),), closes="x", where=own)


STREAM = Stream(site=LaurelSite, wiring=_wiring)
VARIANTS = (
    Variant(
        name="laurel",
        summary="pre-norm with a learned skip: a low-rank term, two weights, or both",
        equation="x' = alpha F(N(x)) + beta (x + x A B);  alpha = beta = 1 and B = 0 at the start",
        law=_site,
        ends=_ends,
        stream="laurel",
        final_norm="required",
        options={"form": "low_rank", "rank": 4},
        check=_check,
        paper=stream_papers.LAUREL,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        provenance="second_hand",
        note="A is drawn from the base init, not column-orthogonal as published; the default rank "
        "is ours. The form over several earlier layers is not here: see dense_former.",
    ),
)
