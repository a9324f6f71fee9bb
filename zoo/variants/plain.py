"""The table of plain placements: one entry each.

Every entry is `x' = N_out(a x + b N_branch(F(N_in(x))))` with its own slots,
multipliers and init gains. In comments and laws, N counts layers unless
"sublayers" is said. To add one: write its law, append its `Variant`.
"""

from __future__ import annotations

import math

from zoo.errors import VariantError
from zoo.variants.placement import Multiplier, NormSlot, Site
from zoo.variants.variant import Context, Paper, Recipe, Variant

NORM = NormSlot()

# The matrices on the value path and in the MLP: those whose product a branch's size is.
_BRANCH_ROLES = ("v", "o", "w1", "w2", "xv", "xo")

VASWANI = Paper(
    "Attention Is All You Need",
    (
        "Vaswani, Ashish",
        "Shazeer, Noam",
        "Parmar, Niki",
        "Uszkoreit, Jakob",
        "Jones, Llion",
        "Gomez, Aidan N.",
        "Kaiser, Lukasz",
        "Polosukhin, Illia",
    ),
    2017,
    "1706.03762",
    "vaswani2017attention",
    "NeurIPS 2017",
)


def _gains(value: float, roles: tuple[str, ...] = _BRANCH_ROLES) -> tuple[tuple[str, float], ...]:
    return tuple((role, value) for role in roles)


def _post_norm(context: Context) -> Site:
    return Site(context.sublayer, norm_out=NORM)


def _pre_norm(context: Context, *, scaled_init: bool) -> Site:
    # GPT-2 divides by the root of the number of residual *sublayers*.
    gain = context.num_sublayers**-0.5 if scaled_init else 1.0
    gains = _gains(gain, ("o", "w2", "xo")) if scaled_init else ()
    return Site(context.sublayer, norm_in=NORM, init_gains=gains)


def deep_norm_constants(context: Context, p: float) -> tuple[float, float]:
    """(alpha, beta) of DeepNet's table 2, with exponents scaled by 4p (DeepNet: p = 1/4)."""
    n, m = context.num_encoder_layers, context.num_decoder_layers
    if context.architecture != "encoder_decoder":
        return (2 * context.num_layers) ** p, (8 * context.num_layers) ** -p
    if context.stack == "decoder":
        return (3 * m) ** p, (12 * m) ** -p
    return 0.81 * (n**4 * m) ** (p / 4), 0.87 * (n**4 * m) ** (-p / 4)


def _deep_norm(context: Context, *, p: float) -> Site:
    alpha, beta = deep_norm_constants(context, p)
    return Site(context.sublayer, norm_out=NORM, skip=Multiplier(alpha), init_gains=_gains(beta))


def _sub_ln(context: Context) -> Site:
    n, m = context.num_encoder_layers, context.num_decoder_layers
    if context.architecture != "encoder_decoder":
        gain = math.sqrt(math.log(2 * context.num_layers))
    elif context.stack == "decoder":
        gain = math.sqrt(math.log(3 * m))
    else:
        gain = math.sqrt(math.log(3 * m) * math.log(2 * n) / 3)
    # The reference code leaves cross-attention alone: no inner norm, gain 1.
    cross = context.sublayer == "cross_attention"
    return Site(
        context.sublayer,
        norm_in=NORM,
        inner_norm=None if cross else NORM,
        init_gains=_gains(gain, ("v", "o", "w1", "w2")),
    )


def _sandwich_norm(context: Context) -> Site:
    return Site(context.sublayer, norm_in=NORM, norm_branch=NORM)


def _res_post_norm(context: Context) -> Site:
    return Site(context.sublayer, norm_branch=NORM, qk_norm=True)


def _rezero(context: Context) -> Site:
    return Site(context.sublayer, branch=Multiplier(0.0, learned="scalar"))


def _mix_norm(context: Context, *, fraction: float) -> Site:
    # Rounded first: 0.29 of 100 layers is 28.999... in floating point, and means 29.
    post = context.layer < math.floor(round(fraction * context.num_layers, 9))
    return Site(context.sublayer, norm_in=None if post else NORM, norm_out=NORM if post else None)


def _check_exponent(*, p: float) -> None:
    if not 0.0 < p <= 1.0:
        raise VariantError(f"deep_norm(p={p}): p lies in (0, 1]; DeepNet's is 0.25, DeepLoop's 0.5")


def _check_fraction(*, fraction: float) -> None:
    if not 0.0 <= fraction <= 1.0:
        raise VariantError(f"mix_norm(fraction={fraction}): fraction lies in [0, 1]")


PLAIN: tuple[Variant, ...] = (
    Variant(
        name="post_norm",
        summary="the original Transformer: norm after the add",
        equation="x' = N(x + F(x))",
        law=_post_norm,
        final_norm="forbidden",
        aliases=("post_ln", "vanilla"),
        paper=VASWANI,
        recipe=Recipe(
            warmup=4000,
            lr=7e-4,
            schedule="inverse_sqrt",
            beta2=0.98,
            source="1706.03762 section 5.3: peak d^-0.5 warmup^-0.5 at d = 512; no clipping",
        ),
        failure="needs warm-up; a plateau at byte frequencies from some dozens of layers on",
    ),
    Variant(
        name="pre_norm",
        summary="norm on the branch's input, a norm at the end",
        equation="x' = x + F(N(x));  y = N_final(x_S)",
        law=_pre_norm,
        final_norm="required",
        options={"scaled_init": False},
        aliases=("pre_ln",),
        paper=Paper(
            "On Layer Normalization in the Transformer Architecture",
            (
                "Xiong, Ruibin",
                "Yang, Yunchang",
                "He, Di",
                "Zheng, Kai",
                "Zheng, Shuxin",
                "Xing, Chen",
                "Zhang, Huishuai",
                "Lan, Yanyan",
                "Wang, Liwei",
                "Liu, Tie-Yan",
            ),
            2020,
            "2002.04745",
            "xiong2020layer",
            "ICML 2020",
        ),
        recipe=Recipe(
            warmup=2000,
            schedule="cosine",
            beta2=0.95,
            weight_decay=0.1,
            clip_norm=1.0,
            source="the LLaMA recipe (2302.13971 section 2.3); Xiong et al. train without warm-up",
        ),
        failure="trains at any depth; the stream's variance grows and late layers add little",
    ),
    Variant(
        name="deep_norm",
        summary="post-norm with a scaled skip and damped branch init, for very deep stacks",
        equation="x' = N(alpha x + F(x));  v, o, w1, w2 drawn with gain beta",
        law=_deep_norm,
        final_norm="forbidden",
        options={"p": 0.25},
        check=_check_exponent,
        aliases=("deepnet",),
        paper=Paper(
            "DeepNet: Scaling Transformers to 1,000 Layers",
            (
                "Wang, Hongyu",
                "Ma, Shuming",
                "Dong, Li",
                "Huang, Shaohan",
                "Zhang, Dongdong",
                "Wei, Furu",
            ),
            2022,
            "2203.00555",
            "wang2022deepnet",
            "TPAMI 2024",
        ),
        recipe=Recipe(
            warmup=4000,
            schedule="inverse_sqrt",
            beta2=0.98,
            source="the post-norm recipe that DeepNet keeps: Adam 0.9 / 0.98, 4000 updates",
        ),
        failure="its largest learning rate is about post-norm's, far below pre-norm's (2601.19895)",
    ),
    Variant(
        name="sub_ln",
        summary="Magneto: pre-norm plus a norm before each output matrix, larger gains",
        equation="x' = x + W_out N(inner(N(x)));  v, o, w1, w2 drawn with gain gamma",
        law=_sub_ln,
        final_norm="required",
        aliases=("magneto", "subln"),
        paper=Paper(
            "Foundation Transformers",
            (
                "Wang, Hongyu",
                "Ma, Shuming",
                "Huang, Shaohan",
                "Dong, Li",
                "Wang, Wenhui",
                "Peng, Zhiliang",
                "Wu, Yu",
                "Bajaj, Payal",
                "Singhal, Saksham",
                "Benhaim, Alon",
                "Patra, Barun",
                "Liu, Zhun",
                "Chaudhary, Vishrav",
                "Song, Xia",
                "Wei, Furu",
            ),
            2022,
            "2210.06423",
            "wang2022foundation",
            "ICML 2023, as Magneto: A Foundation Transformer",
        ),
        recipe=Recipe(
            warmup=4000,
            schedule="inverse_sqrt",
            beta2=0.98,
            source="the authors' DeepNet recipe; the paper's own differs by task",
        ),
    ),
    Variant(
        name="sandwich_norm",
        summary="norms on both the branch's input and its output",
        equation="x' = x + N_branch(F(N_in(x)));  y = N_final(x_S)",
        law=_sandwich_norm,
        embedding_norm="forbidden",
        final_norm="required",
        aliases=("cogview",),
        paper=Paper(
            "CogView: Mastering Text-to-Image Generation via Transformers",
            (
                "Ding, Ming",
                "Yang, Zhuoyi",
                "Hong, Wenyi",
                "Zheng, Wendi",
                "Zhou, Chang",
                "Yin, Da",
                "Lin, Junyang",
                "Zou, Xu",
                "Shao, Zhou",
                "Yang, Hongxia",
                "Tang, Jie",
            ),
            2021,
            "2105.13290",
            "ding2021cogview",
            "NeurIPS 2021",
        ),
        recipe=Recipe(warmup=2000, schedule="cosine", source="the pre-norm recipe"),
    ),
    Variant(
        name="peri_norm",
        summary="sandwich norm with a norm on the embedding too",
        equation="x_0 = N(emb);  x' = x + N_branch(F(N_in(x)));  y = N_final(x_S)",
        law=_sandwich_norm,
        embedding_norm="required",
        final_norm="required",
        aliases=("peri_ln",),
        paper=Paper(
            "Peri-LN: Revisiting Normalization Layer in the Transformer Architecture",
            (
                "Kim, Jeonghoon",
                "Lee, Byeongchan",
                "Park, Cheonbok",
                "Oh, Yeontaek",
                "Kim, Beomjun",
                "Yoo, Taehwan",
                "Shin, Seongjin",
                "Han, Dongyoon",
                "Shin, Jinwoo",
                "Yoo, Kang Min",
            ),
            2025,
            "2502.02732",
            "kim2025peri",
            "ICML 2025",
        ),
        recipe=Recipe(
            warmup_fraction=0.1,
            schedule="cosine",
            beta2=0.95,
            source="second-hand: a tenth of the run, cosine, AdamW 0.9 / 0.95",
        ),
    ),
    Variant(
        name="res_post_norm",
        summary="norm on the branch's output alone; needs query and key norms",
        equation="x' = x + N(F(x));  y = N_final(x_S)",
        law=_res_post_norm,
        final_norm="required",
        aliases=("reordered_norm",),
        paper=Paper(
            "Swin Transformer V2: Scaling Up Capacity and Resolution",
            (
                "Liu, Ze",
                "Hu, Han",
                "Lin, Yutong",
                "Yao, Zhuliang",
                "Xie, Zhenda",
                "Wei, Yixuan",
                "Ning, Jia",
                "Cao, Yue",
                "Zhang, Zheng",
                "Dong, Li",
                "Wei, Furu",
                "Guo, Baining",
            ),
            2021,
            "2111.09883",
            "liu2021swinv2",
            "CVPR 2022",
        ),
        recipe=Recipe(
            warmup=2000,
            schedule="cosine",
            beta2=0.95,
            weight_decay=0.1,
            clip_norm=1.0,
            source="OLMo 2 (2501.00656)",
        ),
        failure="without query and key norms the gradient explodes with depth",
    ),
    Variant(
        name="rezero",
        summary="no norm at all: each branch enters through a learned scalar that starts at 0",
        equation="x' = x + alpha F(x),  alpha = 0 at the start",
        law=_rezero,
        paper=Paper(
            "ReZero is All You Need: Fast Convergence at Large Depth",
            (
                "Bachlechner, Thomas",
                "Majumder, Bodhisattwa Prasad",
                "Mao, Huanru Henry",
                "Cottrell, Garrison W.",
                "McAuley, Julian",
            ),
            2020,
            "2003.04887",
            "bachlechner2020rezero",
            "UAI 2021",
        ),
        recipe=Recipe(warmup=0, schedule="constant", source="2003.04887: trains without warm-up"),
    ),
    Variant(
        name="mix_norm",
        summary="Mix-LN: the first layers post-norm, the others pre-norm",
        equation="x' = N(x + F(x)) in the first floor(fraction N) layers, then x' = x + F(N(x))",
        law=_mix_norm,
        final_norm="required",
        options={"fraction": 0.25},
        check=_check_fraction,
        aliases=("mix_ln",),
        paper=Paper(
            "Mix-LN: Unleashing the Power of Deeper Layers by Combining Pre-LN and Post-LN",
            ("Li, Pengxiang", "Yin, Lu", "Liu, Shiwei"),
            2024,
            "2412.13795",
            "li2024mixln",
            "ICLR 2025",
        ),
        recipe=Recipe(
            warmup_fraction=0.1,
            lr=1e-3,
            schedule="cosine",
            weight_decay=0.0,
            source="the authors' code: 10 % warm-up, Adam, no weight decay",
        ),
    ),
)
