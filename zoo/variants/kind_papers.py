"""Papers of the norm kinds and of the switches inside a sublayer (QK-norm, value residual)."""

from __future__ import annotations

from zoo.variants.papers import authors
from zoo.variants.variant import Paper

LAYER_NORM = Paper(
    "Layer Normalization",
    authors("Ba, Jimmy Lei; Kiros, Jamie Ryan; Hinton, Geoffrey E."),
    2016,
    "1607.06450",
    "ba2016layer",
)

RMS_NORM = Paper(
    "Root Mean Square Layer Normalization",
    authors("Zhang, Biao; Sennrich, Rico"),
    2019,
    "1910.07467",
    "zhang2019root",
    "NeurIPS 2019",
)

SCALE_NORM = Paper(
    "Transformers without Tears: Improving the Normalization of Self-Attention",
    authors("Nguyen, Toan Q.; Salazar, Julian"),
    2019,
    "1910.05895",
    "nguyen2019transformers",
    "IWSLT 2019",
)

DYNAMIC_TANH = Paper(
    "Transformers without Normalization",
    authors("Zhu, Jiachen; Chen, Xinlei; He, Kaiming; LeCun, Yann; Liu, Zhuang"),
    2025,
    "2503.10622",
    "zhu2025transformers",
    "CVPR 2025",
)

DERF = Paper(
    "Stronger Normalization-Free Transformers",
    authors("Chen, Mingzhi; Lu, Taiming; Zhu, Jiachen; Sun, Mingjie; Liu, Zhuang"),
    2025,
    "2512.10938",
    "chen2025stronger",
    "CVPR 2026",
)

TAPER_NORM = Paper(
    "Gated Removal of Normalization in Transformers Enables Stable Training and Efficient "
    "Inference",
    authors("Kanavalau, Andrei; Amo Alonso, Carmen; Lall, Sanjay"),
    2026,
    "2602.10408",
    "kanavalau2026gated",
)

BHYT = Paper(
    "Bounded Hyperbolic Tangent: A Stable and Efficient Alternative to Pre-Layer Normalization "
    "in Large Language Models",
    authors("Byun, Hoyoon; others"),
    2026,
    "2601.09719",
    "byun2026bounded",
)

SEED_NORM = Paper(
    "SeeDNorm: Self-Rescaled Dynamic Normalization",
    authors("Cai, Wenrui; Zhu, Defa; Liu, Qingjie; Min, Qiyang"),
    2025,
    "2510.22777",
    "cai2025seednorm",
    "ICLR 2026",
)

GATED_NORM = Paper(
    "A Unified View of Attention and Residual Sinks: Outlier-Driven Rescaling is Essential for "
    "Transformer Training",
    authors("Qiu, Zihan; others"),
    2026,
    "2601.22966",
    "qiu2026unified",
)

QK_NORM = Paper(
    "Query-Key Normalization for Transformers",
    authors("Henry, Alex; Dachapally, Prudhvi Raj; Pawar, Shubham Shantaram; Chen, Yuxuan"),
    2020,
    "2010.04245",
    "henry2020query",
    "Findings of EMNLP 2020",
)

VIT_22B = Paper(
    "Scaling Vision Transformers to 22 Billion Parameters",
    authors(
        "Dehghani, Mostafa; Djolonga, Josip; Mustafa, Basil; Padlewski, Piotr; Heek, Jonathan; "
        "others"
    ),
    2023,
    "2302.05442",
    "dehghani2023scaling",
    "ICML 2023",
)

GEMMA_2 = Paper(
    "Gemma 2: Improving Open Language Models at a Practical Size",
    authors("{Gemma Team}"),
    2024,
    "2408.00118",
    "gemma2024gemma2",
)

VALUE_RESIDUAL = Paper(
    "Value Residual Learning",
    authors("Zhou, Zhanchao; Wu, Tianyi; Jiang, Zhiyun; Obeid, Fares; Lan, Zhenzhong"),
    2024,
    "2410.17897",
    "zhou2024value",
    "ACL 2025",
)
