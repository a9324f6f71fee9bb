"""Placements whose constants follow the depth: of skips, branches, gains or initial weights."""

from __future__ import annotations

import math

from zoo.errors import VariantError
from zoo.variants import papers
from zoo.variants.placement import Multiplier, NormSlot, Option, Site, StackPlacement
from zoo.variants.plain.base import LAYER_ROLES, NORM, gains
from zoo.variants.variant import Context, Recipe, Variant

# Fraction of the embedding's gradient that GLM-130B keeps (its table 11).
_EMBEDDING_GRADIENT = 0.1


def _glm_deep_norm(context: Context) -> Site:
    # GLM-130B's 2N is the number of its sublayers, which goes for every stack.
    root = math.sqrt(context.num_sublayers)
    return Site(context.sublayer, norm_out=NORM, skip=Multiplier(root), init_gains=gains(1 / root))


def _glm_ends(context: Context) -> StackPlacement:
    return StackPlacement(final_norm="forbidden", embedding_gradient=_EMBEDDING_GRADIENT)


def _minimax_post_norm(
    context: Context,
    *,
    attention: tuple[float, float],
    linear_attention: tuple[float, float],
    mlp: tuple[float, float],
) -> Site:
    if context.sublayer == "parallel" and attention != mlp:
        raise VariantError(
            f"minimax_post_norm(attention={attention}, mlp={mlp}) has two pairs for the one "
            "sublayer of layout = parallel; give both the same, or use layout = sequential"
        )
    pairs = {"mlp": mlp, "parallel": mlp, "linear_attention": linear_attention}
    alpha, beta = pairs.get(context.sublayer, attention)
    return Site(
        context.sublayer,
        norm_in=NORM,
        skip=Multiplier(alpha),
        branch=Multiplier(beta),
        skip_normed=True,
    )


def _dssn(context: Context, *, c_attention: float, c_mlp: float) -> Site:
    # The branches of all layers together then add c_attention^2 + c_mlp^2 to the variance, and
    # so do those of layers with a single branch.
    single = math.hypot(c_attention, c_mlp)
    constants = {"mlp": c_mlp, "parallel": single}
    gain = constants.get(context.sublayer, c_attention) / math.sqrt(context.num_layers)
    return Site(context.sublayer, norm_in=NORM, norm_branch=NormSlot(gain))


def _layer_norm_scaling(context: Context) -> Site:
    return Site(context.sublayer, norm_in=NormSlot(scale=(context.layer + 1) ** -0.5))


def _keel(context: Context) -> Site:
    # The paper's norms have no shift. Which of the kinds without one is the architecture's choice.
    norm = NormSlot(bias=False)
    if context.layer > 0:
        skip = Multiplier(float(context.num_sublayers))
        return Site(context.sublayer, norm_in=norm, norm_out=norm, skip=skip)
    # The first layer meets the embedding, whose size is not that of a norm's output: its first
    # sublayer is pre-norm, and none of its skips is scaled.
    first = context.sublayer == context.sublayers[0]
    return Site(context.sublayer, norm_in=norm, norm_out=None if first else norm)


def _scaled_residual(
    context: Context, *, multiplier: float, by_depth: bool, **ends: Option
) -> Site:
    value = multiplier / math.sqrt(context.num_layers) if by_depth else multiplier
    return Site(context.sublayer, norm_in=NORM, branch=Multiplier(value))


def _scaled_residual_ends(
    context: Context, *, embedding_multiplier: float, logit_multiplier: float, **site: Option
) -> StackPlacement:
    # The head is behind the decoder where there is one.
    headless = context.architecture == "encoder_decoder" and context.stack == "encoder"
    return StackPlacement(
        final_norm="required",
        embedding_multiplier=embedding_multiplier,
        logit_scale=Multiplier(1.0 if headless else logit_multiplier),
    )


def _beam_norm(context: Context) -> Site:
    # The embedding is the first term of the running average, so the first branch is the second.
    terms = context.sublayer_index + 2
    return Site(
        context.sublayer,
        norm_in=NORM,
        norm_branch=NORM,
        skip=Multiplier(math.sqrt((terms - 1) / terms)),
        branch=Multiplier(math.sqrt(1 / terms)),
    )


def _ds_init(context: Context) -> Site:
    gain = (context.layer + 1) ** -0.5
    return Site(context.sublayer, norm_out=NORM, init_gains=gains(gain, LAYER_ROLES))


def _check_dssn(*, c_attention: float, c_mlp: float) -> None:
    for name, value in (("c_attention", c_attention), ("c_mlp", c_mlp)):
        if not value > 0.0:
            raise VariantError(
                f"dssn({name}={value}): the constant lies above 0; Pangu Ultra's are 0.283 and "
                "0.432, Trinity's 1 and 1"
            )


def _check_minimax_post_norm(**pairs: tuple[float, float]) -> None:
    for name, (alpha, beta) in pairs.items():
        if not (alpha >= 0.0 and beta > 0.0):
            raise VariantError(
                f"minimax_post_norm({name}={(alpha, beta)}): alpha, of the skip, must not be below "
                "0, and beta, of the branch, lies above 0"
            )


def _check_scaled_residual(*, by_depth: bool, **multipliers: float) -> None:
    for name, value in multipliers.items():
        if not value > 0.0:
            raise VariantError(
                f"scaled_residual({name}={value}): a multiplier lies above 0; 1.0 leaves it out"
            )


SCALED: tuple[Variant, ...] = (
    Variant(
        name="glm_deep_norm",
        summary="DeepNorm as GLM-130B trains it: stronger skips, weaker branches",
        equation="x' = N((2N)^1/2 x + F(x));  v, o, w1, w2 drawn with gain (2N)^-1/2",
        law=_glm_deep_norm,
        ends=_glm_ends,
        final_norm="forbidden",
        paper=papers.GLM_130B,
        recipe=Recipe(
            schedule="cosine",
            beta2=0.95,
            weight_decay=0.1,
            clip_norm=1.0,
            source="2210.02414: AdamW 0.9 / 0.95, decay 0.1, clip 1, cosine from 8e-5",
        ),
        note=(
            "The gradient of the embedding is multiplied by 0.1, as in the published settings; "
            "the authors changed it by hand during the run. N layers of two sublayers are read "
            "as 2N sublayers, so a decoder with cross-attention has 3N."
        ),
        failure="the embedding's gradient makes the loss spike unless it is shrunk (2210.02414)",
        used_by=("GLM-130B",),
    ),
    Variant(
        name="minimax_post_norm",
        summary="skip and branch both start from the normed stream, with a weight each",
        equation="n = N(x);  x' = alpha n + beta F(n);  y = N_final(x_S)",
        law=_minimax_post_norm,
        final_norm="required",
        options={
            "attention": (1.0, 1.0),
            "linear_attention": (1.0, 1.0),
            "mlp": (1.0, 1.0),
        },
        check=_check_minimax_post_norm,
        paper=papers.MINIMAX_01,
        recipe=Recipe(
            warmup=4000,
            schedule="inverse_sqrt",
            beta2=0.98,
            source="deep_norm's, to which it is equal; MiniMax's own is not particular to it",
        ),
        note=(
            "Options are (alpha, beta) by kind of sublayer, and start where the transformers "
            "library has them; the released model is said to have alpha = (2N)^1/4 = 3.5566 at "
            "80 layers and beta = 1. With one alpha and beta = 1 it is DeepNorm's function with "
            "a norm on the embedding. How MiniMax drew the weights was not to be found."
        ),
        used_by=("MiniMax-Text-01",),
    ),
    Variant(
        name="dssn",
        summary="depth-scaled sandwich norm: the branch norms' gains start at c / sqrt(N)",
        equation="x' = x + N_branch(F(N_in(x))), gain of N_branch c / sqrt(N);  y = N_final(x_S)",
        law=_dssn,
        final_norm="required",
        options={"c_attention": 0.283, "c_mlp": 0.432},
        check=_check_dssn,
        paper=papers.PANGU_ULTRA,
        recipe=Recipe(
            schedule="cosine",
            beta2=0.95,
            weight_decay=0.1,
            clip_norm=1.0,
            source="second-hand, of Pangu Ultra (2504.07866): AdamW 0.9 / 0.95, peak 1e-4",
        ),
        provenance="second_hand",
        note=(
            "Pangu Ultra draws all weights from N(0, 1 / (2 d N)) besides and embeddings with "
            "deviation 0.5: model.init = normal with model.init_std and model.embedding_std. "
            "Trinity's constants are 1 and 1. With layout = parallel the one branch of a layer "
            "gets the root of the sum of both squares."
        ),
        used_by=("Pangu Ultra", "Trinity"),
    ),
    Variant(
        name="layer_norm_scaling",
        summary="pre-norm whose norms shrink with the layer",
        equation="x' = x + F(N(x) / sqrt(l)), l = 1, 2, ... counts layers;  y = N_final(x_S)",
        law=_layer_norm_scaling,
        final_norm="required",
        aliases=("lns",),
        paper=papers.CURSE_OF_DEPTH,
        recipe=Recipe(
            warmup_fraction=0.1,
            lr=1e-3,
            schedule="cosine",
            weight_decay=0.0,
            source="the authors' script for 130M parameters: Adam, 2,000 of 20,000 updates",
        ),
        failure="with output matrices drawn 1 / sqrt(2N) smaller the benefit is gone (the authors)",
        note=(
            "The factor is a constant, as in the paper. Followers start the learned gain there "
            "instead, which is the same function and another effective learning rate."
        ),
    ),
    Variant(
        name="keel",
        summary="post-norm with a skip of the depth's size and a norm on the branch's input",
        equation="x' = N_out(2N x + F(N_in(x)));  in the first layer x + F(N_in(x)), then "
        "N_out(x + F(N_in(x)))",
        law=_keel,
        final_norm="forbidden",
        paper=papers.KEEL,
        recipe=Recipe(
            warmup=2500,
            schedule="cosine",
            beta2=0.95,
            weight_decay=0.01,
            clip_norm=1.0,
            source="2601.19895: AdamW 0.9 / 0.95, peaks of 9e-3 (64 layers) to 4.5e-3 (1024)",
        ),
        failure=(
            "behind pre-norm early in training; gradients of weights shrink like 1 / 2N, which "
            "Adam's eps must stay below"
        ),
        note=(
            "The skip is the number of sublayers of the stack. The paper's norms are RMS norms "
            "without a shift; here the shift is left out and the kind is the architecture's."
        ),
    ),
    Variant(
        name="scaled_residual",
        summary="pre-norm with a constant on every branch, as Granite and MiniCPM have",
        equation="x' = x + m F(N(x)), or m / sqrt(N) with by_depth;  y = N_final(x_S)",
        law=_scaled_residual,
        ends=_scaled_residual_ends,
        final_norm="required",
        options={
            "multiplier": 0.22,
            "by_depth": False,
            "embedding_multiplier": 1.0,
            "logit_multiplier": 1.0,
        },
        check=_check_scaled_residual,
        aliases=("granite", "minicpm"),
        paper=papers.GRANITE,
        recipe=Recipe(
            schedule="wsd",
            beta2=0.95,
            weight_decay=0.1,
            clip_norm=1.0,
            source="MiniCPM (2404.06395) for the schedule; the rest is the pre-norm recipe",
        ),
        note=(
            "The default is Granite 3's branch. The whole of Granite 3.0 8B: "
            "embedding_multiplier=12, logit_multiplier=1/16; of MiniCPM: multiplier=1.4, "
            "by_depth=True, embedding_multiplier=12, logit_multiplier=256/d_model. Granite's "
            "factor on attention scores belongs to attention."
        ),
        used_by=("Granite 3.0", "MiniCPM"),
    ),
    Variant(
        name="beam_norm",
        summary="sandwich norm in which the stream is a running average",
        equation="x' = sqrt((k - 1) / k) x + N_branch(F(N_in(x))) / sqrt(k), k = 2, 3, ... counts "
        "sublayers;  y = N_final(x_S)",
        law=_beam_norm,
        final_norm="required",
        paper=papers.BEAM,
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
        note=(
            "The function of sandwich_norm at the same weights, as every reader of the stream is "
            "a norm: only the size of the stream differs, by sqrt(k)."
        ),
        used_by=("Beam 1.0",),
    ),
    Variant(
        name="ds_init",
        summary="post-norm whose matrices are drawn smaller with every layer",
        equation="x' = N(x + F(x));  all matrices of layer l drawn with gain 1 / sqrt(l)",
        law=_ds_init,
        final_norm="forbidden",
        paper=papers.DS_INIT,
        recipe=Recipe(
            warmup=4000,
            schedule="inverse_sqrt",
            beta2=0.98,
            source="the post-norm recipe, which the paper keeps",
        ),
        note=(
            "The paper's distribution is Glorot's uniform one: model.init = xavier_uniform. Its "
            "merged attention, which is there for speed, is no part of this."
        ),
    ),
)
