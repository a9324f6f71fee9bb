"""Papers of the table of plain placements; an entry of it may as well hold its own."""

from __future__ import annotations

from zoo.variants.variant import Paper

TRANSFORMER = Paper(
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

PRE_LN = Paper(
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
)

DEEP_NET = Paper(
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
)

MAGNETO = Paper(
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
)

COG_VIEW = Paper(
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
)

PERI_LN = Paper(
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
)

SWIN_V2 = Paper(
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
)

RE_ZERO = Paper(
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
)

MIX_LN = Paper(
    "Mix-LN: Unleashing the Power of Deeper Layers by Combining Pre-LN and Post-LN",
    ("Li, Pengxiang", "Yin, Lu", "Liu, Shiwei"),
    2024,
    "2412.13795",
    "li2024mixln",
    "ICLR 2025",
)
