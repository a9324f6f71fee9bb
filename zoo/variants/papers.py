"""Papers of the plain placements, and how their authors are written down.

Those of the other streams are in `stream_papers.py`; norm kinds and switches of a layer cite
theirs beside the code. A list of names that the source leaves open, or that is too long for a
table, ends in `others`; a team is in braces, as BibTeX wants it. What has no arXiv number has a
`url`.
"""

from __future__ import annotations

from zoo.variants.variant import Paper


def authors(names: str) -> tuple[str, ...]:
    """`Last, First; Last, First` as the tuple that a `Paper` holds."""
    return tuple(names.split("; "))


TRANSFORMER = Paper(
    "Attention Is All You Need",
    authors(
        "Vaswani, Ashish; Shazeer, Noam; Parmar, Niki; Uszkoreit, Jakob; Jones, Llion; Gomez, "
        "Aidan N.; Kaiser, Lukasz; Polosukhin, Illia"
    ),
    2017,
    "1706.03762",
    "vaswani2017attention",
    "NeurIPS 2017",
)

PRE_LN = Paper(
    "On Layer Normalization in the Transformer Architecture",
    authors(
        "Xiong, Ruibin; Yang, Yunchang; He, Di; Zheng, Kai; Zheng, Shuxin; Xing, Chen; Zhang, "
        "Huishuai; Lan, Yanyan; Wang, Liwei; Liu, Tie-Yan"
    ),
    2020,
    "2002.04745",
    "xiong2020layer",
    "ICML 2020",
)

DEEP_NET = Paper(
    "DeepNet: Scaling Transformers to 1,000 Layers",
    authors("Wang, Hongyu; Ma, Shuming; Dong, Li; Huang, Shaohan; Zhang, Dongdong; Wei, Furu"),
    2022,
    "2203.00555",
    "wang2022deepnet",
    "TPAMI 2024",
)

MAGNETO = Paper(
    "Foundation Transformers",
    authors(
        "Wang, Hongyu; Ma, Shuming; Huang, Shaohan; Dong, Li; Wang, Wenhui; Peng, Zhiliang; Wu, "
        "Yu; Bajaj, Payal; Singhal, Saksham; Benhaim, Alon; Patra, Barun; Liu, Zhun; Chaudhary, "
        "Vishrav; Song, Xia; Wei, Furu"
    ),
    2022,
    "2210.06423",
    "wang2022foundation",
    "ICML 2023, as Magneto: A Foundation Transformer",
)

COG_VIEW = Paper(
    "CogView: Mastering Text-to-Image Generation via Transformers",
    authors(
        "Ding, Ming; Yang, Zhuoyi; Hong, Wenyi; Zheng, Wendi; Zhou, Chang; Yin, Da; Lin, "
        "Junyang; Zou, Xu; Shao, Zhou; Yang, Hongxia; Tang, Jie"
    ),
    2021,
    "2105.13290",
    "ding2021cogview",
    "NeurIPS 2021",
)

PERI_LN = Paper(
    "Peri-LN: Revisiting Normalization Layer in the Transformer Architecture",
    authors(
        "Kim, Jeonghoon; Lee, Byeongchan; Park, Cheonbok; Oh, Yeontaek; Kim, Beomjun; Yoo, "
        "Taehwan; Shin, Seongjin; Han, Dongyoon; Shin, Jinwoo; Yoo, Kang Min"
    ),
    2025,
    "2502.02732",
    "kim2025peri",
    "ICML 2025",
)

SWIN_V2 = Paper(
    "Swin Transformer V2: Scaling Up Capacity and Resolution",
    authors(
        "Liu, Ze; Hu, Han; Lin, Yutong; Yao, Zhuliang; Xie, Zhenda; Wei, Yixuan; Ning, Jia; Cao, "
        "Yue; Zhang, Zheng; Dong, Li; Wei, Furu; Guo, Baining"
    ),
    2021,
    "2111.09883",
    "liu2021swinv2",
    "CVPR 2022",
)

RE_ZERO = Paper(
    "ReZero is All You Need: Fast Convergence at Large Depth",
    authors(
        "Bachlechner, Thomas; Majumder, Bodhisattwa Prasad; Mao, Huanru Henry; Cottrell, "
        "Garrison W.; McAuley, Julian"
    ),
    2020,
    "2003.04887",
    "bachlechner2020rezero",
    "UAI 2021",
)

MIX_LN = Paper(
    "Mix-LN: Unleashing the Power of Deeper Layers by Combining Pre-LN and Post-LN",
    authors("Li, Pengxiang; Yin, Lu; Liu, Shiwei"),
    2024,
    "2412.13795",
    "li2024mixln",
    "ICLR 2025",
)

GLM_130B = Paper(
    "GLM-130B: An Open Bilingual Pre-trained Model",
    authors(
        "Zeng, Aohan; Liu, Xiao; Du, Zhengxiao; Wang, Zihan; Lai, Hanyu; Ding, Ming; Yang, "
        "Zhuoyi; Xu, Yifan; Zheng, Wendi; Xia, Xiao; others"
    ),
    2022,
    "2210.02414",
    "zeng2022glm130b",
    "ICLR 2023",
)

MINIMAX_01 = Paper(
    "MiniMax-01: Scaling Foundation Models with Lightning Attention",
    authors("{MiniMax}; Li, Aonian; Gong, Bangwei; Yang, Bo; Shan, Boji; others"),
    2025,
    "2501.08313",
    "minimax2025minimax01",
)

ADMIN = Paper(
    "Understanding the Difficulty of Training Transformers",
    authors("Liu, Liyuan; Liu, Xiaodong; Gao, Jianfeng; Chen, Weizhu; Han, Jiawei"),
    2020,
    "2004.08249",
    "liu2020understanding",
    "EMNLP 2020",
)

PANGU_ULTRA = Paper(
    "Pangu Ultra: Pushing the Limits of Dense Large Language Models on Ascend NPUs",
    authors(
        "Yin, Yichun; Huang, Wenyong; Song, Kaikai; Tang, Yehui; Wu, Xueyu; Guo, Wei; Guo, Peng; "
        "others"
    ),
    2025,
    "2504.07866",
    "yin2025pangu",
)

NORM_FORMER = Paper(
    "NormFormer: Improved Transformer Pretraining with Extra Normalization",
    authors("Shleifer, Sam; Weston, Jason; Ott, Myle"),
    2021,
    "2110.09456",
    "shleifer2021normformer",
)

SKIP_INIT = Paper(
    "Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks",
    authors("De, Soham; Smith, Samuel L."),
    2020,
    "2002.10444",
    "de2020batch",
    "NeurIPS 2020",
)

FIXUP = Paper(
    "Fixup Initialization: Residual Learning Without Normalization",
    authors("Zhang, Hongyi; Dauphin, Yann N.; Ma, Tengyu"),
    2019,
    "1901.09321",
    "zhang2019fixup",
    "ICLR 2019",
)

T_FIXUP = Paper(
    "Improving Transformer Optimization Through Better Initialization",
    authors("Huang, Xiao Shi; Perez, Felipe; Ba, Jimmy; Volkovs, Maksims"),
    2020,
    "",
    "huang2020improving",
    "ICML 2020",
    url="https://proceedings.mlr.press/v119/huang20f.html",
)

CAIT = Paper(
    "Going Deeper with Image Transformers",
    authors(
        "Touvron, Hugo; Cord, Matthieu; Sablayrolles, Alexandre; Synnaeve, Gabriel; Jégou, Hervé"
    ),
    2021,
    "2103.17239",
    "touvron2021going",
    "ICCV 2021",
)

CURSE_OF_DEPTH = Paper(
    "The Curse of Depth in Large Language Models",
    authors("Sun, Wenfang; Song, Xinyuan; Li, Pengxiang; Yin, Lu; Zheng, Yefeng; Liu, Shiwei"),
    2025,
    "2502.05795",
    "sun2025curse",
    "NeurIPS 2025",
)

HYBRID_NORM = Paper(
    "HybridNorm: Towards Stable and Efficient Transformer Training via Hybrid Normalization",
    authors(
        "Zhuo, Zhijian; Zeng, Yutao; Wang, Ya; Zhang, Sijun; Yang, Jian; Li, Xiaoqing; Zhou, "
        "Xun; Ma, Jinwen"
    ),
    2025,
    "2503.04598",
    "zhuo2025hybridnorm",
    "NeurIPS 2025",
)

GPAS = Paper(
    "GPAS: Accelerating Convergence of LLM Pretraining via Gradient-Preserving Activation Scaling",
    authors(
        "Chen, Tianhao; Xu, Xin; Liu, Zijing; Li, Pengxiang; Song, Xinyuan; Jaiswal, Ajay Kumar; "
        "Zhang, Fan; Hu, Jishan; Wang, Yang; Chen, Hao; Diao, Shizhe; Liu, Shiwei; Li, Yu; Yin, "
        "Lu; Yang, Can"
    ),
    2025,
    "2506.22049",
    "chen2025gpas",
)

BRANCH_NORM = Paper(
    "BranchNorm: Robustly Scaling Extremely Deep Transformers",
    authors("Liu, Yijin; Zeng, Xianfeng; Meng, Fandong; Zhou, Jie"),
    2023,
    "2305.02790",
    "liu2023branchnorm",
    "Findings of ACL 2024",
)

PRO_RES = Paper(
    "Progressive Residual Warmup for Language Model Pretraining",
    authors("Chen, Tianhao; Xu, Xin; Yin, Lu; Chen, Hao; Wang, Yang; Diao, Shizhe; Yang, Can"),
    2026,
    "2603.05369",
    "chen2026progressive",
)

DEEP_SCALE_LM = Paper(
    "Transformers Get Stable: An End-to-End Signal Propagation Theory for Language Models",
    authors(
        "Kedia, Akhil; Zaidi, Mohd Abbas; Khyalia, Sushil; Jung, Jungho; Goka, Harshith; Lee, "
        "Haejun"
    ),
    2024,
    "2403.09635",
    "kedia2024transformers",
    "ICML 2024",
)

DS_INIT = Paper(
    "Improving Deep Transformer with Depth-Scaled Initialization and Merged Attention",
    authors("Zhang, Biao; Titov, Ivan; Sennrich, Rico"),
    2019,
    "1908.11365",
    "zhang2019improving",
    "EMNLP-IJCNLP 2019",
)

LIPS_FORMER = Paper(
    "LipsFormer: Introducing Lipschitz Continuity to Vision Transformers",
    authors("Qi, Xianbiao; Wang, Jianan; Chen, Yihao; Shi, Yukai; Zhang, Lei"),
    2023,
    "2304.09856",
    "qi2023lipsformer",
    "ICLR 2023",
)

KEEL = Paper(
    "Post-LayerNorm Is Back: Stable, ExpressivE, and Deep",
    authors("Chen, Chen; Wei, Lai"),
    2026,
    "2601.19895",
    "chen2026post",
)

COMPLETE_P = Paper(
    "Don't be lazy: CompleteP enables compute-efficient deep transformers",
    authors(
        "Dey, Nolan; Zhang, Bin Claire; Noci, Lorenzo; Li, Mufan; Bordelon, Blake; Bergsma, "
        "Shane; Pehlevan, Cengiz; Hanin, Boris; Hestness, Joel"
    ),
    2025,
    "2505.01618",
    "dey2025lazy",
    "NeurIPS 2025",
)

GRANITE = Paper(
    "Granite 3.0 Language Models",
    authors("{Granite Team, IBM}"),
    2024,
    "",
    "granite2024granite",
    url="https://github.com/ibm-granite/granite-3.0-language-models",
)

BEAM = Paper(
    "Beam 1.0, a model in Hugging Face transformers",
    authors("{Reflection AI}"),
    2026,
    "",
    "reflection2026beam",
    url="https://huggingface.co/reflection/Beam-1.0-501B-A23B",
)

MUSE_SPARK = Paper(
    "Muse Spark Open, a model in Hugging Face transformers",
    authors("{Meta}"),
    2026,
    "",
    "meta2026muse",
    url="https://huggingface.co/meta-models/Muse-Spark-Open-816B-A42B",
)
