"""Placements that are an initialisation before anything else: what is drawn how large."""

from __future__ import annotations

import functools
import math

from zoo.errors import VariantError, choices
from zoo.variants import papers
from zoo.variants.placement import Multiplier, NormSlot, Site, StackPlacement
from zoo.variants.plain.base import NORM, gains, refuse_parallel
from zoo.variants.variant import Context, Recipe, Variant

_CENTER = NormSlot(kind="center_norm")


def _fixup(context: Context) -> Site:
    # L^(-1 / (2m - 2)) with m = 2 matrices on the way through each branch, the last one zero.
    first = context.num_sublayers**-0.5
    zero = gains(0.0, ("o", "w2", "xo"))
    return Site(
        context.sublayer,
        branch=Multiplier(1.0, learned="scalar"),
        scalar_biases=True,
        init_gains=(*gains(first, ("v", "w1", "xv")), *zero),
        lr_multipliers=(("branch", 0.1), ("scalar_bias", 0.1)),
    )


def _fixup_ends(context: Context) -> StackPlacement:
    return StackPlacement(
        embedding_norm="forbidden", final_norm="forbidden", init_gains=(("head", 0.0),)
    )


def _t_fixup_decodes(context: Context) -> bool:
    return context.architecture == "encoder_decoder" and context.stack == "decoder"


def _t_fixup(context: Context) -> Site:
    # The encoder's factor belongs to layers of two sublayers, the decoder's to those of three.
    depth = context.num_layers
    gain = (9 * depth) ** -0.25 if _t_fixup_decodes(context) else 0.67 * depth**-0.25
    return Site(context.sublayer, init_gains=gains(gain))


def _t_fixup_ends(context: Context) -> StackPlacement:
    return StackPlacement(
        embedding_norm="forbidden",
        final_norm="forbidden",
        init_gains=(("emb", (9 * context.num_layers) ** -0.25),),
    )


@functools.cache
def _correlations(
    sublayers: tuple[str, ...], num_layers: int, beta2: float, dropout: float, start: float
) -> tuple[float, ...]:
    """Predicted correlation of two tokens at the input of every sublayer (2403.09635, app. A)."""
    r, met = start, []
    for sublayer in sublayers * num_layers:
        met.append(r)
        # Attention mixes until its outputs differ by dropout alone; the MLP's is ReLU's kernel.
        out = 1.0
        if sublayer == "mlp":
            out = r + (math.sqrt(1.0 - r * r) - r * math.acos(r)) / math.pi
        r = min((1.0 - beta2) * r + beta2 * (1.0 - dropout) * out, 1.0)
    return tuple(met)


def _deep_scale_lm(context: Context, *, form: str, dropout: float, correlation: float) -> Site:
    refuse_parallel(context, "deep_scale_lm", "counts on branches of unit variance", "complete_p")
    if context.num_layers < 2:
        raise VariantError(
            f"num_layers = {context.num_layers}: deep_scale_lm weighs branches by 1 / num_layers "
            "and would drop the skip; use 2 layers or more"
        )
    beta2 = 2.0 / context.num_sublayers
    kept = 1.0 - dropout
    if context.sublayer == "mlp":
        # Both matrices have the deviation (2 (1 - p) / (d f))^(1/4); f = 4 d where only the
        # ratio is missing, as in the paper.
        ratio = context.d_ff / context.d_model if context.d_ff and context.d_model else 4.0
        drawn: tuple[tuple[str, float], ...] = (
            ("w1", (2.0 * kept / ratio) ** 0.25),
            ("w2", (2.0 * kept * ratio) ** 0.25),
        )
    else:
        start = correlation * kept
        met = _correlations(context.sublayers, context.num_layers, beta2, dropout, start)
        drawn = gains((kept / met[context.sublayer_index]) ** 0.25, ("v", "o", "xv", "xo"))
    return Site(
        context.sublayer,
        norm_in=NORM if form == "pre" else None,
        norm_out=NORM if form == "post" else None,
        skip=Multiplier(math.sqrt(1.0 - beta2)),
        branch=Multiplier(math.sqrt(beta2)),
        init_gains=drawn,
    )


def _deep_scale_lm_ends(
    context: Context, *, form: str, dropout: float, correlation: float
) -> StackPlacement:
    if form == "post":
        return StackPlacement(embedding_norm="required", final_norm="forbidden")
    return StackPlacement(final_norm="required")


def _check_deep_scale_lm(*, form: str, dropout: float, correlation: float) -> None:
    if form not in ("post", "pre"):
        raise VariantError(f"deep_scale_lm(form={form!r}): use {choices(('post', 'pre'))}")
    if not 0.0 <= dropout < 1.0:
        raise VariantError(f"deep_scale_lm(dropout={dropout}): a rate lies in [0, 1)")
    if not 0.0 < correlation <= 1.0:
        raise VariantError(
            f"deep_scale_lm(correlation={correlation}): it lies in (0, 1]; the paper's, of "
            "BERT's text, is 0.221"
        )


def _lipsformer(context: Context) -> Site:
    return Site(
        context.sublayer,
        norm_out=_CENTER,
        branch=Multiplier(1.0 / context.num_layers, learned="vector"),
        qk_norm=False,
        qk_unit=True,
        attention_scale=10.0,
    )


def _lipsformer_ends(context: Context) -> StackPlacement:
    return StackPlacement(
        embedding_norm="required",
        final_norm="required",
        embedding_slot=_CENTER,
        final_slot=_CENTER,
    )


def _complete_p(
    context: Context,
    *,
    alpha: float,
    base_layers: int,
    base_width: int,
    input_scale: float,
    output_scale: float,
) -> Site:
    depth, width = context.num_layers / base_layers, _wider(context, base_width)
    slower = depth ** (alpha - 1.0)
    return Site(
        context.sublayer,
        norm_in=NORM,
        branch=Multiplier(depth**-alpha),
        attention_scale=1.0 / context.head_dim if context.head_dim else None,
        init_gains=gains(width**-0.5, ("q", "k", "v", "o", "w1", "w2", "xq", "xk", "xv", "xo")),
        lr_multipliers=(("matrix", slower / width), ("gain", slower), ("bias", slower)),
        decay_multipliers=(("matrix", width),),
    )


def _complete_p_ends(
    context: Context,
    *,
    alpha: float,
    base_layers: int,
    base_width: int,
    input_scale: float,
    output_scale: float,
) -> StackPlacement:
    return StackPlacement(
        final_norm="required",
        embedding_multiplier=input_scale,
        logit_scale=Multiplier(output_scale / _wider(context, base_width)),
    )


def _wider(context: Context, base_width: int) -> float:
    """m_N, the width in units of the base's; 1 where the width is not known yet."""
    return context.d_model / base_width if context.d_model else 1.0


def _check_complete_p(
    *,
    alpha: float,
    base_layers: int,
    base_width: int,
    input_scale: float,
    output_scale: float,
) -> None:
    if not 0.0 <= alpha <= 1.0:
        raise VariantError(
            f"complete_p(alpha={alpha}): alpha lies in [0, 1]; CompleteP's is 1, depth-muP's 0.5"
        )
    for name, value in (("base_layers", base_layers), ("base_width", base_width)):
        if value < 1:
            raise VariantError(f"complete_p({name}={value}): {name} is 1 or more")
    for name, scale in (("input_scale", input_scale), ("output_scale", output_scale)):
        if not scale > 0.0:
            raise VariantError(
                f"complete_p({name}={scale}): {name} lies above 0; 1.0 leaves it out"
            )


INITIALISED: tuple[Variant, ...] = (
    Variant(
        name="fixup",
        summary="no norms: branches start at zero, with learned scalars in their place",
        equation="x' = x + m F(x);  o = w2 = head = 0, v and w1 drawn with gain L^(-1/2)",
        law=_fixup,
        ends=_fixup_ends,
        embedding_norm="forbidden",
        final_norm="forbidden",
        paper=papers.FIXUP,
        recipe=Recipe(source="1901.09321: the learned scalars move at a tenth of the rate"),
        failure="its first steps move the head alone, then the last matrices of the branches",
        provenance="second_hand",
        note="The law for branches of m matrices, with m = 2. L counts the sublayers of a stack; "
        "attention counts as v and o, the MLP as w1 and w2, gated or not. A tied head is the "
        "embedding and cannot start at zero.",
    ),
    Variant(
        name="t_fixup",
        summary="no norms and no warm-up: value path, MLP and embeddings drawn smaller with depth",
        equation="x' = x + F(x);  v, o, w1, w2 drawn with 0.67 N^(-1/4) or (9 M)^(-1/4)",
        law=_t_fixup,
        ends=_t_fixup_ends,
        embedding_norm="forbidden",
        final_norm="forbidden",
        paper=papers.T_FIXUP,
        recipe=Recipe(
            warmup=0,
            lr=5e-4,
            schedule="constant",
            weight_decay=1e-4,
            source="the authors' example for IWSLT 2014; from 4000 steps on theirs falls as "
            "sqrt(4000 / step)",
        ),
        note="Embeddings are drawn with (9 N)^(-1/4), their own stack's depth in N. The law is of "
        "encoder-decoders: a stack by itself takes the encoder's, which has its two sublayers. "
        "The factor sqrt(2) on v of the authors' code undoes their library's smaller v.",
    ),
    Variant(
        name="deep_scale_lm",
        summary="skip and branch weighted to unit variance, matrices drawn to keep it",
        equation="x' = N(lambda x + beta F(x)) or lambda x + beta F(N(x)),  beta^2 = 2 / S",
        law=_deep_scale_lm,
        ends=_deep_scale_lm_ends,
        options={"form": "post", "dropout": 0.0, "correlation": 0.221},
        check=_check_deep_scale_lm,
        base_init="lecun_normal",
        paper=papers.DEEP_SCALE_LM,
        recipe=Recipe(source="2403.09635 keeps the recipe of the model that it scales"),
        note="S counts sublayers and lambda^2 = 1 - beta^2. v and o follow the predicted "
        "correlation of tokens, w1 and w2 are drawn for ReLU; other activations and gates lose "
        "some variance. Give dropout the model's rate. Cross-attention is drawn like attention.",
    ),
    Variant(
        name="lipsformer",
        summary="Lipschitz throughout: centring instead of norms, cosine attention, small branches",
        equation="x' = C(x + alpha F(x)),  C(x) = d / (d - 1) (x - mean),  alpha = 1 / N at first",
        law=_lipsformer,
        ends=_lipsformer_ends,
        embedding_norm="required",
        final_norm="required",
        base_init="spectral_normal",
        paper=papers.LIPS_FORMER,
        recipe=Recipe(warmup=0, source="2304.09856 trains without warm-up"),
        note="Scores are 10 times the cosine of query and key. The authors' code applies the same "
        "C to the input of attention as well, and leaves values as they are.",
    ),
    Variant(
        name="complete_p",
        summary="pre-norm whose settings carry over from a base width and depth",
        equation="x' = x + m_L^(-alpha) F(N(x)),  m_L = N / base_layers, m_N = d / base_width",
        law=_complete_p,
        ends=_complete_p_ends,
        final_norm="required",
        options={
            "alpha": 1.0,
            "base_layers": 2,
            "base_width": 256,
            "input_scale": 1.0,
            "output_scale": 1.0,
        },
        check=_check_complete_p,
        aliases=("depth_mup",),
        base_init="normal",
        paper=papers.COMPLETE_P,
        recipe=Recipe(source="tuned at the base width and depth, then kept (2505.01618)"),
        note="Hidden matrices are drawn with init_std m_N^(-1/2) and move at m_N^(-1) "
        "m_L^(alpha - 1) of the rate, their decay m_N times as strong; scores are scaled by "
        "1 / head_dim and logits by output_scale / m_N. For transfer also scale Adam's eps by "
        "m_N^(-1) m_L^(-alpha), and set embedding_scale = False with an embedding_std.",
    ),
)
